package main

import (
	"context"
	"maps"
	"path"
	"slices"
	"strings"
)

// Usage says what a package needs, and what needs it. Packages from outside
// the tree count as well, but what those import is not known.
type Usage struct {
	Direct       int // packages it imports
	Transitive   int // those, and what they import, and so on
	By           int // packages that import it
	ByTransitive int // those, and what imports them, and so on
}

// buildImports makes the imports from the packages, by import path. Packages
// in testdata and the like have imports, but are not counted as importers.
func (m *codemap) buildImports(ctx context.Context) (map[string]Usage, error) {
	tree, err := m.tree.Get(ctx)
	if err != nil {
		return nil, err
	}
	packages := make(map[string]Needs, len(tree.Dirs))
	for _, dir := range tree.Dirs {
		if packages[dir], err = m.needs.Get(ctx, dir); err != nil {
			return nil, err
		}
	}
	graph := importGraph(packages)
	imports := make(map[string]Usage, len(packages))
	for from, p := range graph {
		reached := reach(graph, from)
		n := imports[from]
		n.Direct, n.Transitive = len(p.imports), len(reached)
		imports[from] = n
		if !p.inBuild {
			continue
		}
		for _, to := range p.imports {
			n := imports[to]
			n.By++
			imports[to] = n
		}
		for to := range reached {
			n := imports[to]
			n.ByTransitive++
			imports[to] = n
		}
	}
	return imports, nil
}

// node is a package in the import graph.
type node struct {
	imports []string // resolved, sorted, each once, never itself
	inBuild bool
}

// importGraph returns the packages by import path, their imports resolved.
func importGraph(packages map[string]Needs) map[string]node {
	resolve := func(from, imported string) string {
		if strings.HasPrefix(imported, "./") || strings.HasPrefix(imported, "../") {
			imported = path.Join(from, imported)
			if p, ok := packages[imported]; ok {
				return p.Path
			}
			return imported
		}
		// A directory named vendor, here or in any directory above, comes
		// first: so golang.org/x/… in net/http is vendor/golang.org/x/….
		for dir := from; ; dir = path.Dir(dir) {
			if p, ok := packages[path.Join(dir, "vendor", imported)]; ok {
				return p.Path
			}
			if dir == "." {
				return imported
			}
		}
	}
	graph := make(map[string]node, len(packages))
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		p := packages[dir]
		if _, taken := graph[p.Path]; taken {
			continue // two modules of one name: the first counts
		}
		n := node{inBuild: inBuild(dir)}
		for _, imported := range p.Imports {
			if imported == "C" {
				continue // is cgo, no package
			}
			if to := resolve(dir, imported); to != p.Path {
				n.imports = append(n.imports, to)
			}
		}
		slices.Sort(n.imports)
		n.imports = slices.Compact(n.imports)
		graph[p.Path] = n
	}
	return graph
}

// reach returns all that can be reached from a package, itself aside. Cycles,
// which only broken trees have, do no harm.
func reach(graph map[string]node, from string) map[string]bool {
	seen := map[string]bool{from: true}
	for todo := []string{from}; len(todo) > 0; {
		next := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, to := range graph[next].imports {
			if !seen[to] {
				seen[to] = true
				todo = append(todo, to)
			}
		}
	}
	delete(seen, from)
	return seen
}
