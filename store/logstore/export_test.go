package logstore

// WithVersion returns a file with another format version and a right checksum.
func WithVersion(data []byte, version uint32, headerOnly bool) []byte {
	data = append([]byte(nil), data...)
	h := data
	if headerOnly {
		h = data[:journalHeader]
	}
	le.PutUint32(h[8:], version)
	le.PutUint32(h[12:], checksum(h[16:])^checksum(h[:12]))
	return data
}

const FormatVersion = formatVersion
