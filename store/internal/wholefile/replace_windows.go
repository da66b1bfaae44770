package wholefile

import (
	"fmt"
	"os"
	"time"
)

// replace renames a file over another. As long as somebody has that one open,
// a virus scanner or an editor for example, Windows does not allow it, so it
// is tried for a while.
func replace(root *os.Root, from, to string) (err error) {
	for wait := time.Millisecond; wait < time.Second; wait *= 2 {
		if err = root.Rename(from, to); err == nil {
			return nil
		}
		time.Sleep(wait)
	}
	return fmt.Errorf("%s cannot be replaced; is it open in another program? %w", to, err)
}
