package cacheman_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/codec"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// Point encodes itself, in 16 bytes.
type Point struct{ x, y int64 }

// AppendBinary implements encoding.BinaryAppender.
func (p Point) AppendBinary(b []byte) ([]byte, error) {
	b = binary.BigEndian.AppendUint64(b, uint64(p.x))
	return binary.BigEndian.AppendUint64(b, uint64(p.y)), nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (p *Point) UnmarshalBinary(b []byte) error {
	if len(b) != 16 {
		return errors.New("a Point has 16 bytes")
	}
	p.x = int64(binary.BigEndian.Uint64(b))
	p.y = int64(binary.BigEndian.Uint64(b[8:]))
	return nil
}

// A type's own methods are used without being asked for. A cache with another
// Codec says so in its Spec.
func ExampleSpec_codec() {
	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	points, err := cacheman.Register(m, "points", cacheman.Spec[string, Point]{})
	if err != nil {
		log.Fatal(err)
	}
	notes, err := cacheman.Register(m, "notes", cacheman.Spec[string, map[string]any]{
		Codec: codec.JSON[map[string]any](),
	})
	if err != nil {
		log.Fatal(err)
	}

	points.Set("here", Point{3, -4})
	notes.Set("todo", map[string]any{"done": false})
	ctx := context.Background()
	if err := m.Sync(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("bytes of key and value:", points.Stats().Bytes)
	if err := m.Reload(ctx, cacheman.All()); err != nil {
		log.Fatal(err)
	}
	fmt.Println(points.Peek("here"))
	fmt.Println(notes.Peek("todo"))

	// Types that cannot be stored are refused at once.
	_, err = cacheman.Register(m, "channels", cacheman.Spec[string, chan int]{})
	fmt.Println(errors.Is(err, cacheman.ErrType))
	// Output:
	// bytes of key and value: 20
	// {3 -4} true
	// map[done:false] true
	// true
}
