package vfs

// MakeDir is what OpenDir does first, with another sync.
var MakeDir = makeDir
