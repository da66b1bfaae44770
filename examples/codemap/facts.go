package main

import (
	"bytes"
	"context"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/scanner"
	"go/token"
	"strconv"
	"strings"
)

// Counts can be added up.
type Counts struct {
	Lines, Code, Comments, Blank int
	Functions                    int
	Complexity                   int // of all functions together
	Exported                     int // names others can use: top-level ones and methods of exported types, not those of tests
}

func (c *Counts) add(d Counts) {
	c.Lines += d.Lines
	c.Code += d.Code
	c.Comments += d.Comments
	c.Blank += d.Blank
	c.Functions += d.Functions
	c.Complexity += d.Complexity
	c.Exported += d.Exported
}

// Function is one function, and how many ways lead through it.
type Function struct {
	Name       string // "Open" or "(*File).Read"
	Complexity int
}

// Facts are what is known of one Go file. There are many, so the names of the
// fields are not kept with each, which saves a third of the room and of the
// time to read it. In return, a change of the fields is one of the [version].
type Facts struct {
	_       struct{} `cbor:",toarray"`
	Package string
	Test    bool // its name ends in _test.go
	Ignored bool // its build constraint cannot be met without the tag ignore: a tool beside the package
	Counts
	Worst   Function // its most complex function, the first if there are several
	Imports []string
	Problem string // why it could not be parsed; then only the lines are counted
	Unread  string // why it could not be read; then nothing is known
}

// buildFacts makes the facts of a file. That it cannot be read is one, until
// it can be.
func (m *codemap) buildFacts(ctx context.Context, name string) (Facts, error) {
	src, err := m.files.Get(ctx, m.path(name))
	if why, ok := unreadable(err); ok {
		return Facts{Unread: why}, nil
	} else if err != nil {
		return Facts{}, err
	}
	return facts(name, src), nil
}

// facts makes the facts of a Go source.
func facts(name string, src []byte) Facts {
	f := Facts{Test: strings.HasSuffix(name, "_test.go")}
	f.scan(src)
	tree, err := parser.ParseFile(token.NewFileSet(), "", src, parser.SkipObjectResolution)
	if err != nil {
		f.Problem = err.Error()
		return f
	}
	f.Package = tree.Name.Name
	for _, spec := range tree.Imports {
		path, _ := strconv.Unquote(spec.Path.Value) // the parser has checked it
		f.Imports = append(f.Imports, path)
	}
	for _, decl := range tree.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			f.addFunction(decl)
		case *ast.GenDecl:
			f.Exported += exported(decl)
		}
	}
	if f.Test {
		f.Exported = 0
	}
	return f
}

// scan counts lines. A line with code on it is a line of code, whatever else
// is on it; one inside a comment is a comment, even if it is empty; and all
// lines of a raw string are code. It goes by tokens, so that "//" in a string
// is no comment, and works on files that do not parse.
func (f *Facts) scan(src []byte) {
	const code, comment = 1, 2
	f.Lines = bytes.Count(src, []byte("\n"))
	if len(src) > 0 && src[len(src)-1] != '\n' {
		f.Lines++
	}
	lines := make([]byte, f.Lines+1)

	var s scanner.Scanner
	file := token.NewFileSet().AddFile("", -1, len(src))
	s.Init(file, src, nil, scanner.ScanComments)
	header, line, from := true, 0, 0 // at src[from:] the line'th line goes on
	for {
		pos, tok, text := s.Scan()
		if tok == token.EOF {
			break
		}
		if tok == token.SEMICOLON && text == "\n" {
			continue // is not there, only meant
		}
		offset := file.Offset(pos)
		line += bytes.Count(src[from:offset], []byte("\n"))
		from = offset
		mark := byte(code)
		if tok == token.COMMENT {
			mark = comment
			if expr, err := constraint.Parse(text); header && err == nil {
				met, _ := outcomes(expr, "ignore")
				f.Ignored = f.Ignored || !met
			}
		}
		for i := range strings.Count(text, "\n") + 1 {
			lines[line+i] |= mark
		}
		header = header && tok == token.COMMENT // constraints stand before the package clause
	}
	for _, mark := range lines[:f.Lines] {
		switch {
		case mark&code != 0:
			f.Code++
		case mark&comment != 0:
			f.Comments++
		default:
			f.Blank++
		}
	}
}

// outcomes says whether a build constraint can be met without a tag, and
// whether it can be missed, by some choice of the other tags.
func outcomes(expr constraint.Expr, without string) (met, missed bool) {
	switch e := expr.(type) {
	case *constraint.TagExpr:
		return e.Tag != without, true
	case *constraint.NotExpr:
		missed, met = outcomes(e.X, without)
	case *constraint.AndExpr:
		met1, missed1 := outcomes(e.X, without)
		met2, missed2 := outcomes(e.Y, without)
		met, missed = met1 && met2, missed1 || missed2
	case *constraint.OrExpr:
		met1, missed1 := outcomes(e.X, without)
		met2, missed2 := outcomes(e.Y, without)
		met, missed = met1 || met2, missed1 && missed2
	}
	return met, missed
}

func (f *Facts) addFunction(decl *ast.FuncDecl) {
	fn := Function{Name: decl.Name.Name, Complexity: complexity(decl)}
	visible := decl.Name.IsExported()
	if decl.Recv != nil && len(decl.Recv.List) > 0 {
		star, base := receiver(decl.Recv.List[0].Type)
		visible = visible && ast.IsExported(base)
		fn.Name = base + "." + fn.Name
		if star {
			fn.Name = "(*" + base + ")." + decl.Name.Name
		}
	}
	if visible {
		f.Exported++
	}
	f.Functions++
	f.Complexity += fn.Complexity
	if fn.Complexity > f.Worst.Complexity {
		f.Worst = fn
	}
}

// receiver takes a receiver's type apart: *List[T] is List, with a star.
func receiver(expr ast.Expr) (star bool, base string) {
	for {
		switch e := expr.(type) {
		case *ast.ParenExpr:
			expr = e.X
		case *ast.StarExpr:
			star, expr = true, e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.IndexListExpr:
			expr = e.X
		case *ast.Ident:
			return star, e.Name
		default:
			return star, "?"
		}
	}
}

// complexity is the cyclomatic complexity of a function, the functions written
// inside it included: one, and one more for each place where it can branch.
func complexity(fn *ast.FuncDecl) int {
	n := 1
	ast.Inspect(fn, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt:
			n++
		case *ast.CaseClause:
			if node.List != nil { // not the default
				n++
			}
		case *ast.CommClause:
			if node.Comm != nil {
				n++
			}
		case *ast.BinaryExpr:
			if node.Op == token.LAND || node.Op == token.LOR {
				n++
			}
		}
		return true
	})
	return n
}

// exported counts the exported names that a declaration declares.
func exported(decl *ast.GenDecl) (n int) {
	count := func(name *ast.Ident) {
		if name.IsExported() {
			n++
		}
	}
	for _, spec := range decl.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			count(spec.Name)
		case *ast.ValueSpec:
			for _, name := range spec.Names {
				count(name)
			}
		}
	}
	return n
}
