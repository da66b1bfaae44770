//go:build cachemandebug

package graph

const Debug = true

var Hook func(point string)

func At(point string) {
	if Hook != nil {
		Hook(point)
	}
}
