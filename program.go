package cacheman

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"sync"
)

// ProgramVersion returns a fingerprint of the running program: the SHA-256 of
// its executable file. As Spec.Version it has everything that a builder made
// built anew, when it is asked for, after any change to the program or the
// libraries in it; what comes out the same concerns nobody else. That is safe
// and often too much: a Version that is changed by hand when results change
// builds less.
//
// The file is read once, which takes about a millisecond for each megabyte.
// Builds that are not reproducible differ each time.
func ProgramVersion() (string, error) { return programVersion() }

var programVersion = sync.OnceValues(func() (version string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cacheman: the program's own file cannot be read: %w", err)
		}
	}()
	name, err := os.Executable()
	if err != nil {
		return "", err
	}
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
})
