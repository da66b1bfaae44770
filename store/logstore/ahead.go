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
	recs   []store.Record
	stored []byte // instead, all of the block as it is in the file, checked
	err    error
}

// all gives what is in one block after the other. Up to n goroutines
// read, check and unpack the next ones meanwhile; they have ended when the
// iteration has. The slice of records is valid until the next step; what
// it holds is the caller's.
func (x *snapshot) all(index []block, n int) iter.Seq[readBlock] {
	return x.each(index, n, func(int) bool { return false })
}

// each is all that gives those blocks for which asStored reports true as they are in the
// file, until the next step. It is called once for each, in order if n is 1.
func (x *snapshot) each(index []block, n int, asStored func(int) bool) iter.Seq[readBlock] {
	n = min(n, len(index)/2)
	if n == 0 || slices.ContainsFunc(index, func(b block) bool { return b.size > maxAhead }) {
		return x.inTurn(index, asStored)
	}
	return func(yield func(readBlock) bool) {
		var workers sync.WaitGroup
		defer workers.Wait()
		stop := make(chan struct{})
		defer close(stop)
		spare := make(chan readBlock, 4*n) // as many as there are: two ready, and what both sides work on
		ready := make([]chan readBlock, n) // worker w reads blocks w, w+n, w+2n, …
		for w := range ready {
			ready[w] = make(chan readBlock, 2)
			workers.Go(func() {
				for i := w; i < len(index); i += n {
					var b readBlock
					select {
					case b = <-spare:
					default:
					}
					b.read(x, index[i], asStored(i))
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
			if !yield(b) {
				return
			}
			select {
			case spare <- b:
			default:
			}
		}
	}
}

func (x *snapshot) inTurn(index []block, asStored func(int) bool) iter.Seq[readBlock] {
	return func(yield func(readBlock) bool) {
		var b readBlock
		for i, at := range index {
			if b.read(x, at, asStored(i)); !yield(b) {
				return
			}
		}
	}
}

// read makes b what is in a block, in the memory of what was read before.
func (b *readBlock) read(x *snapshot, at block, asStored bool) {
	if !asStored {
		b.stored = b.stored[:0]
		b.recs, b.err = x.load(at, b.recs)
		return
	}
	b.recs = b.recs[:0]
	b.stored, b.err = x.stored(at, b.stored)
}
