//go:build !cachemandebug

package graph

// Debug says whether the invariants are asserted while the engine works, which
// go test -tags cachemandebug does.
const Debug = false
