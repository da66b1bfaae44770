package cacheman

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// model is what a Manager on a store should hold, in the simplest terms: four
// caches as maps in memory, and as maps on disk.
type model struct {
	mem, disk [4]map[int]int
	dropped   [4]bool // invalidated, and the disk does not know it yet
	edited    [4]bool // changed since it was saved
	deleted   [4]bool // deleted from disk, and not saved since
}

// The caches: b depends on a; c on a and on changes of b; d is in memory only.
var (
	modelNames    = [4]string{"a", "b", "c", "d"}
	afterInvalid  = [4][]int{{1, 2}, {2}, {}, {}} // dependents, transitively
	afterAnEdit   = [4][]int{{}, {2}, {}, {}}     // those on change
	inMemory      = 3
	errModelStore = errors.New("the store fails")
)

func newModel() *model {
	m := &model{}
	for i := range m.mem {
		m.mem[i], m.disk[i] = map[int]int{}, map[int]int{}
	}
	return m
}

func (m *model) drop(caches ...int) {
	for _, i := range caches {
		m.mem[i] = map[int]int{}
		m.dropped[i] = i != inMemory
		m.edited[i] = true
	}
}

func (m *model) edit(i int) {
	m.edited[i] = true
	m.drop(afterAnEdit[i]...)
}

// save is a sync that succeeds: of one cache, or of all if i < 0. Caches whose
// saved contents were deleted are saved again only by an explicit one, or if
// they were edited.
func (m *model) save(i int, explicit bool) {
	for j := range m.mem {
		if j == inMemory {
			continue
		}
		if m.dropped[j] {
			m.disk[j], m.dropped[j] = map[int]int{}, false
		}
		if (i < 0 || i == j) && (m.edited[j] || explicit && m.deleted[j]) {
			m.disk[j] = maps.Clone(m.mem[j])
			m.edited[j], m.deleted[j] = false, false
		}
	}
}

// failToSave is a sync of all that fails. It is made up for by the next, as that of an
// edit is, also of caches whose saved contents were deleted; but a cache that had nothing
// to save is no longer edited. It reports whether those that are suffice.
func (m *model) failToSave(edited [4]bool) bool {
	for i, disk := range m.disk {
		if m.dropped[i] {
			disk = nil
		}
		if i != inMemory && !edited[i] && !maps.Equal(m.mem[i], disk) {
			return false
		}
	}
	m.edited = edited
	return true
}

func (m *model) reload(i int) {
	was := m.edited[i]
	m.edited[i] = false
	m.mem[i] = map[int]int{}
	if i == inMemory {
		was = false
	} else if !m.dropped[i] {
		m.mem[i] = maps.Clone(m.disk[i])
		if m.deleted[i] {
			m.deleted[i] = false
		}
	}
	if was {
		m.drop(afterAnEdit[i]...)
	}
}

func (m *model) restart() {
	for i := range m.mem {
		m.mem[i] = maps.Clone(m.disk[i])
		m.dropped[i], m.edited[i], m.deleted[i] = false, false, false
	}
	m.mem[inMemory] = map[int]int{}
}

// FuzzModel does the same to a Manager and to the model, as the bytes say, and
// compares them after every step: in memory, and what another Manager would
// find on the store.
func FuzzModel(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		steps := make([]byte, 3*(20+rng.IntN(200)))
		for i := range steps {
			steps[i] = byte(rng.Uint32())
		}
		f.Add(steps)
	}
	f.Add([]byte{6, 0, 0, 11, 0, 0, 16, 0, 0, 14, 0, 0, 17, 0, 0})                   // Close makes up for a failed sync of what was deleted
	f.Add([]byte{10, 3, 1, 9, 0, 7, 15, 1, 1, 2, 2, 3, 14, 2, 0, 15, 1, 3, 3, 2, 0}) // a failed sync is no edit of what was not edited
	f.Fuzz(func(t *testing.T, steps []byte) {
		if len(steps) > 3000 {
			return
		}
		d := newDisk()
		want := newModel()
		var m *Manager
		var caches [4]*Cache[int, int]
		single := len(steps) > 0 && steps[0]%2 == 0 // entries are read one by one
		open := func() {
			m = must(Open("", Options{Store: d, Autosync: &Autosync{Off: true}}))
			if single {
				m.partialFrom, m.readCost = 0, 0
			}
			specs := [4]Spec[int, int]{{}, {DependsOn: []string{"a"}}, {DependsOn: []string{"a"}, DependsOnChange: []string{"b"}}, {Memory: true}}
			for i, spec := range specs {
				caches[i] = must(Register(m, modelNames[i], spec))
			}
		}
		open()
		defer func() { m.Close() }()
		// What a cache has that is not loaded is not known, so to delete anything is an edit. Where others depend on
		// edits it is loaded first.
		unknown := func(i int) bool {
			return caches[i].state.Load() == stateUnloaded && len(afterAnEdit[i]) == 0
		}
		var log []string
		for n := 0; len(steps) >= 3; n++ {
			op, i, k := int(steps[0])%22, int(steps[1])%4, int(steps[2])%8
			steps = steps[3:]
			c, ctx := caches[i], t.Context()
			log = append(log, fmt.Sprintf("%d(%s,%d)", op, modelNames[i], k))
			switch op {
			case 0, 1, 2, 3:
				ok(t, c.Set(k, n))
				want.mem[i][k] = n
				want.edit(i)
			case 4, 5:
				_, had := want.mem[i][k]
				ok(t, c.Delete(k))
				if delete(want.mem[i], k); had {
					want.edit(i)
				} else if unknown(i) {
					want.edit(i)
				}
			case 6:
				must(c.Update(k, func(v int, ok bool) (int, bool) {
					if w, had := want.mem[i][k]; v != w || ok != had {
						t.Errorf("Update got %d, %v; want %d, %v", v, ok, w, had)
					}
					return v + 1, true
				}))
				want.mem[i][k]++
				want.edit(i)
			case 7:
				ok(t, c.Clear())
				want.mem[i] = map[int]int{}
				want.edit(i)
			case 8:
				_, had := want.mem[i][k]
				had = had || unknown(i)
				ok(t, c.Invalidate(k))
				if delete(want.mem[i], k); had {
					want.edit(i)
				}
			case 9:
				ok(t, c.InvalidateAll())
				want.drop(append(slices.Clone(afterInvalid[i]), i)...)
			case 10:
				ok(t, c.Touch())
				want.drop(afterInvalid[i]...)
			case 11, 12:
				ok(t, m.Sync(ctx))
				want.save(-1, true)
			case 13:
				if i != inMemory {
					ok(t, c.Sync(ctx))
					want.save(i, true)
				}
			case 14:
				d.setFail(errModelStore)
				err := m.Sync(ctx)
				d.setFail(nil)
				if err != nil && !errors.Is(err, errModelStore) {
					t.Fatal(err)
				}
				var edited [4]bool
				for i, c := range caches {
					edited[i] = c.Stats().Edits > 0
				}
				if !want.failToSave(edited) {
					t.Fatalf("after %v:\nedited is only %v", log, edited)
				}
			case 15:
				ok(t, c.Reload(ctx))
				want.reload(i)
			case 16:
				ok(t, c.DeleteSaved(ctx))
				if i != inMemory {
					want.disk[i], want.deleted[i], want.dropped[i] = map[int]int{}, true, false
				}
			case 17:
				ok(t, m.Close())
				want.save(-1, false)
				want.restart()
				open()
			case 18:
				want.restart() // a crash
				d = &disk{Store: d.Store}
				open()
			case 20, 21:
				j, l := (i+1)%4, (i+2+k%2)%4
				_, had := want.mem[j][k]
				had = had || unknown(j)
				ok(t, m.Batch(func(b *Batch) error {
					c.SetIn(b, k, n)
					caches[j].DeleteIn(b, k)
					caches[l].SetIn(b, k+1, n)
					return nil
				}))
				want.mem[i][k], want.mem[l][k+1] = n, n
				delete(want.mem[j], k)
				if had {
					want.edit(j)
				}
				want.edit(i)
				want.edit(l)
			case 19:
				for i, c := range caches { // while it is not known what it holds
					equal(t, "Len", c.Len(), len(want.mem[i]))
				}
			}
			if k%2 == 0 { // the other half leaves caches unloaded for longer
				for i, c := range caches {
					if got := maps.Collect(c.All()); !maps.Equal(got, want.mem[i]) {
						t.Fatalf("after %v:\n%s holds %v, want %v", log, modelNames[i], got, want.mem[i])
					}
					if k == 0 {
						checkTable(t, c)
					}
				}
			}
			other := must(Open("", Options{Store: &disk{Store: d.Store}}))
			for i, name := range modelNames {
				if i == inMemory {
					continue
				}
				got := maps.Collect(must(Register(other, name, Spec[int, int]{})).All())
				if !maps.Equal(got, want.disk[i]) {
					t.Fatalf("after %v:\nthe store has %v of %s, want %v", log, got, name, want.disk[i])
				}
			}
		}
	})
}
