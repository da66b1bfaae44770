module github.com/cacheman-go/cacheman/proof

go 1.26.0

require (
	github.com/anishathalye/porcupine v1.3.1
	github.com/cacheman-go/cacheman v0.0.0
)

require (
	github.com/fxamacker/cbor/v2 v2.10.0 // indirect
	github.com/gofrs/flock v0.13.1 // indirect
	github.com/klauspost/compress v1.20.4 // indirect
	github.com/x448/float16 v0.8.4 // indirect
	golang.org/x/sys v0.47.0 // indirect
)

replace github.com/cacheman-go/cacheman => ../
