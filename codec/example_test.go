package codec_test

import (
	"bytes"
	"fmt"

	"github.com/cacheman-go/cacheman/codec"
)

func ExampleFor() {
	type Point struct{ X, Y int }
	c, err := codec.For[Point]()
	if err != nil {
		fmt.Println(err)
		return
	}
	b, _ := c.Append(nil, Point{1, 2})
	p, _ := c.Decode(b)
	fmt.Println(c.Name, len(b), p)
	// Output: cbor 7 {1 2}
}

func ExampleFor_refused() {
	type Job struct {
		Name string
		Done []chan struct{}
	}
	_, err := codec.For[Job]()
	fmt.Println(err)
	// Output: codec: codec_test.Job cannot be stored: Done[] is chan struct {}: it has a meaning in this process only
}

// Keys sort by their bytes as they sort by their values.
func ExampleKey() {
	type Edge struct{ From, To int }
	c, err := codec.Key[Edge]()
	if err != nil {
		fmt.Println(err)
		return
	}
	a, _ := c.Append(nil, Edge{-1, 500})
	b, _ := c.Append(nil, Edge{3, 2})
	fmt.Println(c.Name, bytes.Compare(a, b))
	// Output: (int64,int64) -1
}
