package logstore

import (
	"iter"
	"runtime"
	"slices"
	"sync"

	"github.com/cacheman-go/cacheman/store"
)

// readers is how many goroutines read and unpack blocks for one iteration.
func readers() int { return min(4, runtime.GOMAXPROCS(0)) }

// maxAhead is the size of a block that is better not held more than once.
const maxAhead = 1 << 20

// readBlock is what was read of a block.
type readBlock struct {
	recs []store.Record
	err  error
}

// all gives the records of one block after the other. Up to n goroutines
// read, check and unpack the next ones meanwhile; they have ended when the
// iteration has. The slice of records is valid until the next step; what
// it holds is the caller's.
func (x *snapshot) all(index []block, n int) iter.Seq2[[]store.Record, error] {
	n = min(n, len(index)/2)
	if n == 0 || slices.ContainsFunc(index, func(b block) bool { return b.size > maxAhead }) {
		return x.inTurn(index)
	}
	return func(yield func([]store.Record, error) bool) {
		var workers sync.WaitGroup
		defer workers.Wait()
		stop := make(chan struct{})
		defer close(stop)
		spare := make(chan []store.Record, n)
		ready := make([]chan readBlock, n) // worker w reads blocks w, w+n, w+2n, …
		for w := range ready {
			ready[w] = make(chan readBlock, 2)
			workers.Go(func() {
				for i := w; i < len(index); i += n {
					var b readBlock
					select {
					case b.recs = <-spare:
					default:
					}
					b.recs, b.err = x.load(index[i], b.recs)
					select {
					case ready[w] <- b:
					case <-stop:
						return
					}
				}
			})
		}
		for i := range index {
			b := <-ready[i%n]
			if !yield(b.recs, b.err) {
				return
			}
			select {
			case spare <- b.recs:
			default:
			}
		}
	}
}

func (x *snapshot) inTurn(index []block) iter.Seq2[[]store.Record, error] {
	return func(yield func([]store.Record, error) bool) {
		var recs []store.Record
		for _, b := range index {
			var err error
			if recs, err = x.load(b, recs); !yield(recs, err) {
				return
			}
		}
	}
}
