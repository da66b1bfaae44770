package cacheman_test

import (
	"context"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/cacheman-go/cacheman"
	"github.com/cacheman-go/cacheman/store/memstore"
)

// Files are inputs. Each is looked at once after the Manager was opened, and
// again after Refresh.
func ExampleOpenFiles() {
	dir, err := os.MkdirTemp("", "cacheman")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			log.Fatal(err)
		}
	}

	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	files, err := cacheman.OpenFiles(m)
	if err != nil {
		log.Fatal(err)
	}
	words, err := cacheman.Register(m, "words", cacheman.Spec[string, int]{
		Build: func(ctx context.Context, name string) (int, error) {
			text, err := files.Get(ctx, filepath.Join(dir, name)) // depends on the contents of the file
			if err != nil {
				return 0, err
			}
			fmt.Println("  counting", name)
			return len(strings.Fields(string(text))), nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	write("a.txt", "one two")
	write("b.txt", "three")
	count := func() {
		for _, name := range []string{"a.txt", "b.txt"} {
			n, err := words.Get(ctx, name)
			fmt.Println(name, n, err)
		}
	}
	count()
	write("a.txt", "one two") // the same contents
	write("b.txt", "three four")
	if err := files.Refresh(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("after Refresh:")
	count()
	// Output:
	//   counting a.txt
	// a.txt 2 <nil>
	//   counting b.txt
	// b.txt 1 <nil>
	// after Refresh:
	// a.txt 2 <nil>
	//   counting b.txt
	// b.txt 2 <nil>
}

// What a builder looks at through FS is recorded: here a directory, so the
// list is made again when a file comes or goes, and not when one changes.
func ExampleFiles_FS() {
	dir, err := os.MkdirTemp("", "cacheman")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			log.Fatal(err)
		}
	}

	m, err := cacheman.Open("", cacheman.Options{Store: memstore.New()})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	files, err := cacheman.OpenFiles(m)
	if err != nil {
		log.Fatal(err)
	}
	list, err := cacheman.RegisterValue(m, "list", cacheman.Spec[cacheman.Single, []string]{
		Build: func(ctx context.Context, _ cacheman.Single) ([]string, error) {
			fmt.Println("  looking")
			return fs.Glob(files.FS(ctx, dir), "*.txt")
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	write("a.txt", "")
	fmt.Println(list.Get(ctx))
	write("a.txt", "changed")
	files.Recheck() // as Refresh, but looks when somebody asks
	fmt.Println(list.Get(ctx))
	write("b.txt", "")
	files.Recheck()
	fmt.Println(list.Get(ctx))
	// Output:
	//   looking
	// [a.txt] <nil>
	// [a.txt] <nil>
	//   looking
	// [a.txt b.txt] <nil>
}
