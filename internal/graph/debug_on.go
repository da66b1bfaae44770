//go:build cachemandebug

package graph

// Debug says whether the invariants are asserted while the engine works.
const Debug = true
