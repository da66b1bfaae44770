// Package proof has the checks of cacheman that need more than the library's own
// tests: histories of several goroutines that are checked for linearizability
// (in its tests), mechanisms of the engine that are taken out one at a time
// (command mutate), and a long run in which no read may be stale or torn
// (command stress). README.md says how they are run.
package proof
