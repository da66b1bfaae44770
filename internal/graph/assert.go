//go:build !cachemandebug

package graph

// Debug says whether the invariants are asserted while the engine works, which
// go test -tags cachemandebug does.
const Debug = false

// Hook is called by At, with the tag.
var Hook func(point string)

// At is called where the engine holds no lock and others may come between.
// Without the tag it is nothing.
func At(string) {}
