package cacheman

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestProgramVersion: the same program has the same version, another has another.
func TestProgramVersion(t *testing.T) {
	if os.Getenv("CACHEMAN_PRINT_VERSION") != "" {
		os.Stdout.WriteString("version " + must(ProgramVersion()) + "\n")
		os.Exit(0)
	}
	self := must(os.Executable())
	data := must(os.ReadFile(self))
	run := func(exe string) string {
		cmd := exec.Command(exe, "-test.run", "^TestProgramVersion$")
		cmd.Env = append(os.Environ(), "CACHEMAN_PRINT_VERSION=1")
		return string(must(cmd.Output()))
	}
	other := filepath.Join(t.TempDir(), filepath.Base(self))
	ok(t, os.WriteFile(other, append(data, 0), 0o700))
	a := run(self)
	equal(t, "of the same", a, "version "+must(ProgramVersion())+"\n")
	if b := run(other); a == b {
		t.Errorf("another program has the same version, %s", a)
	}
}
