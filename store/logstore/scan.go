package logstore

import (
	"bytes"
	"io"
)

// window reads a file from front to back in large pieces.
type window struct {
	f    io.ReaderAt
	end  int64 // what is beyond does not count
	buf  []byte
	off  int64  // of buf in the file
	salt uint32 // of the frame that was read last
}

const windowSize = 256 << 10

// at returns n bytes from offset off on, or nil if they are not all before end.
func (w *window) at(off, n int64) ([]byte, error) {
	if off+n > w.end {
		return nil, nil
	}
	if off < w.off || off+n > w.off+int64(len(w.buf)) {
		size := min(max(n, windowSize), w.end-off)
		if int64(cap(w.buf)) < size {
			w.buf = make([]byte, size)
		}
		w.buf, w.off = w.buf[:size], off
		if err := readFull(w.f, w.buf, off); err != nil {
			w.buf = w.buf[:0]
			return nil, err
		}
	}
	return w.buf[off-w.off:][:n], nil
}

// chunk returns the chunk at off, if there is a valid one.
func (w *window) chunk(off int64) (c chunk, payload []byte, ok bool, err error) {
	b, err := w.at(off, chunkHeader)
	if b == nil {
		return chunk{}, nil, false, err
	}
	if c, ok = parseHeader(b); !ok {
		return chunk{}, nil, false, nil
	}
	b, err = w.at(off, chunkHeader+int64(c.size))
	if b == nil {
		return chunk{}, nil, false, err
	}
	c, payload, ok = parseChunk(b)
	return c, payload, ok, nil
}

// search returns the offset of the next valid chunk from off on that want
// accepts, wherever it starts; -1 if there is none.
func (w *window) search(off int64, want func(chunk) bool) (int64, error) {
	magic := le.AppendUint32(nil, chunkMagic)
	for off+chunkHeader <= w.end {
		b, err := w.at(off, min(64<<10, w.end-off))
		if err != nil {
			return -1, err
		}
		i := bytes.Index(b, magic)
		if i < 0 {
			off += int64(len(b) - len(magic) + 1)
			continue
		}
		off += int64(i)
		c, _, ok, err := w.chunk(off)
		if err != nil {
			return -1, err
		}
		if ok && want(c) {
			return off, nil
		}
		off++
	}
	return -1, nil
}

// shortFrame is frame for one of a single chunk, of which st may carry out any number: either
// all of it counts, or nothing of it is carried out.
func (w *window) shortFrame(st *stage, j *journal, off int64, frame uint64) (end int64, ok bool, err error) {
	c, payload, ok, err := w.chunk(off)
	if !ok || err != nil || c.journal != j.id || c.frame != frame || c.no != 0 || c.flags != flagCommit || !makeSense(payload) {
		return 0, false, err
	}
	w.salt = c.salt
	size := chunkHeader + c.size
	return off + int64(size), st.replay(chunkRef{j: j, off: off, size: size, salt: c.salt}, payload), nil
}

// frame carries out the frame that should be at off in st, and returns where it
// ends. It reports false if there is no whole frame of that number.
func (w *window) frame(st *stage, j *journal, off int64, frame uint64) (end int64, ok bool, err error) {
	for no := uint32(0); ; no++ {
		c, payload, ok, err := w.chunk(off)
		if !ok || err != nil {
			return 0, false, err
		}
		if no == 0 {
			w.salt = c.salt
		}
		if c.journal != j.id || c.frame != frame || c.no != no || c.salt != w.salt || c.flags&^flagCommit != 0 {
			return 0, false, nil
		}
		size := chunkHeader + c.size
		if !st.replay(chunkRef{j: j, off: off, size: size, salt: c.salt}, payload) {
			return 0, false, nil
		}
		off += int64(size)
		if c.flags&flagCommit != 0 {
			return off, true, nil
		}
	}
}
