package cacheman

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCompiledOnce: whoever imports the package compiles, in each package anew, what
// methods of plain types have in their signatures, and what functions with type parameters
// use. Caches of our own are in neither: each would take seconds.
func TestCompiledOnce(t *testing.T) {
	own := []string{"byHand", "clock", "deadlines", "keysOf", "numberOf", "presenceIn", "untracked", "Env", "OpenFiles"}
	files := gotoken.NewFileSet()
	plain, generic := 0, 0
	for _, name := range must(filepath.Glob("*.go")) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, d := range must(parser.ParseFile(files, name, nil, 0)).Decls {
			f, is := d.(*ast.FuncDecl)
			if !is {
				continue
			}
			switch receiver := receiverOf(f); {
			case f.Type.TypeParams != nil || receiver == nil && f.Recv != nil:
				generic++
				ast.Inspect(f.Body, func(n ast.Node) bool {
					if id, is := n.(*ast.Ident); is && slices.Contains(own, id.Name) {
						t.Errorf("%s: %s uses %s", files.Position(id.Pos()), f.Name.Name, id.Name)
					}
					return true
				})
			case receiver != nil && receiver.Name != "Files":
				plain++
				ast.Inspect(f.Type, func(n ast.Node) bool {
					x, is := n.(*ast.IndexListExpr)
					if is && types.ExprString(x.X) == "Cache" {
						t.Errorf("%s: %s.%s has types in its signature", files.Position(x.Pos()), receiver.Name, f.Name.Name)
					}
					return true
				})
			}
		}
	}
	if plain < 100 || generic < 100 {
		t.Errorf("only %d methods of plain types and %d generic functions were found", plain, generic)
	}
}

// receiverOf returns the type that f is a method of, or nil if it is of none, or of one
// with type parameters.
func receiverOf(f *ast.FuncDecl) *ast.Ident {
	if f.Recv == nil {
		return nil
	}
	of := f.Recv.List[0].Type
	if star, is := of.(*ast.StarExpr); is {
		of = star.X
	}
	id, _ := of.(*ast.Ident)
	return id
}
