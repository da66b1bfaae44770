package cacheman

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"testing"
)

// FuzzRecord: whatever a store gives back, it is an error or makes sense, and
// costs no more than it is long.
func FuzzRecord(f *testing.F) {
	built := append([]byte{flagBuilt, 5}, make([]byte, 8)...)
	for _, seed := range [][]byte{
		nil,
		{0, 5},
		append(built, 6, 1),
		append(built, 6, 1, 0, 1, 'c', 1, 'k', 5, 1, 1, 'l', 0),
		append(built, 6, 1, 2, 1, 'k', 5),
		{flagBuilt, 0x80, 0x80, 0x80},
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, meta []byte) {
		r, err := parseRecord(meta)
		if err != nil {
			if r != (record{}) {
				t.Errorf("%v, and yet %+v", err, r)
			}
			return
		}
		edges, err := parseEdges(r.edges)
		if err != nil {
			return
		}
		if 3*len(edges) > len(meta) {
			t.Errorf("%d edges from %d bytes", len(edges), len(meta))
		}
		// Written again they are the same edges.
		var again []byte
		for _, e := range edges {
			again = binary.AppendUvarint(append(again, 0), uint64(len(e.cache)))
			again = binary.AppendUvarint(append(again, e.cache...), uint64(len(e.key)))
			again = binary.AppendUvarint(append(again, e.key...), e.stamp)
		}
		same, err := parseEdges(string(again))
		if err != nil || len(same) != len(edges) {
			t.Fatalf("%v: %v, again %v", err, edges, same)
		}
		for i := range same {
			if same[i] != edges[i] {
				t.Errorf("%v, again %v", edges[i], same[i])
			}
		}
	})
}

// FuzzListing: what was saved of a directory or a file is read as what it was,
// or not at all.
func FuzzListing(f *testing.F) {
	f.Add([]byte("a.go/\x00\x00\x00\x00dir/\x80\x00\x00\x00"))
	f.Add([]byte("a.go/\x00\x00"))
	f.Add(bytes.Repeat([]byte{1}, fileStateSize))
	f.Fuzz(func(t *testing.T, data []byte) {
		if entries, err := listed(string(data)); err == nil {
			var again []byte
			for _, e := range entries {
				again = binary.BigEndian.AppendUint32(append(append(again, e.Name...), '/'), uint32(e.Type))
			}
			if !bytes.Equal(again, data) {
				t.Errorf("%q, again %q", data, again)
			}
		}
		var s fileState
		if err := s.UnmarshalBinary(data); err == nil {
			if again := must(s.AppendBinary(nil)); !bytes.Equal(again, data) {
				t.Errorf("%q, again %q", data, again)
			}
		}
	})
}

// FuzzDescription: what a store gives back as the description of a cache is an
// error, or a description that comes back as it is.
func FuzzDescription(f *testing.F) {
	f.Add([]byte(`{"format":1,"type":"map[string]int","keyCodec":"string","codec":"int","dependsOn":[{"cache":"a","onChange":true}]}`))
	f.Add([]byte(`{"format":1,"whole":"AAECAw=="}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := parseDescription(data)
		if err != nil {
			return
		}
		first := must(json.Marshal(d))
		if again := must(json.Marshal(must(parseDescription(first)))); !bytes.Equal(first, again) {
			t.Errorf("%s, again %s", first, again)
		}
	})
}
