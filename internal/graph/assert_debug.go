//go:build cachemandebug

package graph

const debug = true

var Hook func(point string)

func At(point string) {
	if Hook != nil {
		Hook(point)
	}
}
