package main

// mutation is a mechanism, and how it is taken out.
type mutation struct {
	name  string
	edits []edit
	tests string // pattern of the tests that are expected to notice; their files need no other than sharedTests
	in    string // where they are, if that is an internal package and not the library
	stops bool   // they are to stop where the engine lets others come between
}

// edit replaces text that is in a file exactly once.
type edit struct{ file, old, new string }

// An edit that only reorders steps leaves a window of nanoseconds; where it has a
// time.Sleep, that is to make it wide enough for a test to see through.
var mutations = []mutation{
	{
		name:  "poison of runs by a write",
		edits: []edit{{"internal/graph/readers.go", "r.poison++\n\t\t\t\t\tif r.patient {", "if r.patient {"}},
		tests: "^TestBuilderSeesOneInstant$",
	},
	{
		name:  "poison of runs when contents are replaced",
		edits: []edit{{"internal/graph/graph.go", "for _, r := range o.g.running {\n\t\tr.poison++\n\t}", ""}},
		tests: "^TestBuilderSeesOneInstant$",
	},
	{
		name:  "a poisoned run looks before it reads",
		edits: []edit{{"internal/graph/frame.go", "case r.poison != r.sane:\n\t\treturn Doubtful", "case false:\n\t\treturn Doubtful"}},
		tests: "^TestBuilderSeesOneInstant$",
	},
	{
		name:  "a poisoned run does not publish",
		edits: []edit{{"internal/graph/run.go", "case r.poison != r.sane:\n\t\treturn Poisoned", "case false:\n\t\treturn Poisoned"}},
		tests: "^TestChangeWhilePublishing$",
	},
	{
		name:  "a run that has seen a change does not publish",
		edits: []edit{{"internal/graph/run.go", "case r.aborted:\n\t\treturn Poisoned", "case false:\n\t\treturn Poisoned"}},
		tests: "^TestSupersededRunSeesNoMixture$",
	},
	{
		name:  "a superseded run does not publish",
		edits: []edit{{"internal/graph/run.go", "case r.superseded || r.node.run() != r || r.node.dead():", "case r.node.dead():"}},
		tests: "^TestInvalidatedBuildIsNotKept$",
	},
	{
		name:  "a superseded run reads nothing more",
		edits: []edit{{"internal/graph/run.go", "if r.superseded && r.open {", "if false {"}},
		tests: "^TestSupersededRunSeesNoMixture$",
	},
	{
		name:  "a late caller does not get what a run had read before",
		edits: []edit{{"internal/graph/resolve.go", "(r.sane < at || r.Err == ErrStale ||", "(at < 0 || r.Err == ErrStale ||"}},
		tests: "^TestJoinAfterChange$",
	},
	{
		name:  "who comes later waits for a later call",
		edits: []edit{{"internal/graph/resolve.go", "|| r.late(s.came))", ")"}},
		tests: "^TestComeLater$",
	},
	{
		name:  "keys are those that are noted to be read",
		edits: []edit{{"keys.go", "if keys.owner.Marks() == marks {", "if marks == marks {"}},
		tests: "^TestKeysListed$",
		stops: true,
	},
	{
		name:  "who overtakes what adds up keys waits for it",
		edits: []edit{{"write.go", "cmp.Or(keys.Patient(), c.m.graph.Mark(keys), wait)", "cmp.Or(c.m.graph.Mark(keys), wait)"}},
		tests: "^TestKeysFasterThanAddedUp$",
	},
	{
		name:  "readers look whether a time has come",
		edits: []edit{{"get.go", "c.m.ring()\n\t\tif v, ok := c.peek(k, true)", "if v, ok := c.peek(k, true)"}},
		tests: "^TestClock$|^TestMapVocabulary$",
	},
	{
		name:  "what is set early is compared before it is saved",
		edits: []edit{{"load.go", "return c.edits.Load() > 0 && c.spec.Load == nil", "return false && c.spec.Load == nil"}},
		tests: "^TestEqualBeforeLoading$|^TestLimitOfInputs$|^TestReloadWhileSaving$|^TestMapVocabulary$",
	},
	{
		name:  "an old name goes with what takes its place",
		edits: []edit{{"lane.go", "heir != nil && (failed[heir.slot] || !wanted(heir.slot))", "heir != nil && failed[heir.slot]"}},
		tests: "^TestFormerlyOthersSaved$",
	},
	{
		name:  "what running builders need is not forgotten",
		edits: []edit{{"limit.go", "(g.Needed(e.node) || g.Mark(e.node) != nil)", "g.Mark(e.node) != nil"}},
		tests: "^TestLimitOfWhatIsRead$|^TestReloadWhileSaving$|^TestMapVocabulary$",
	},
	{
		name:  "who adds entries faster than others are evicted waits",
		edits: []edit{{"limit.go", "if turn := l.turn.Load(); turn != nil {\n\t\t\tt :=", "if turn := l.turn.Load(); turn != nil && false {\n\t\t\tt :="}},
		tests: "^TestLimitHoldsUnderLoad$|^TestReloadWhileSaving$|^TestMapVocabulary$",
	},
	{
		name:  "what an entry had is remembered for what may be valid by it",
		edits: []edit{{"internal/graph/readers.go", "case y.active() || !value:\n\t\treturn y.active()", "default:\n\t\treturn y.active()"}},
		tests: "^TestWhatIsReadStays$|^TestReloadWhileSaving$|^TestMapVocabulary$",
	},
	{
		name:  "what is stored may have read what was stored",
		edits: []edit{{"internal/graph/node.go", "n.roomAbove = unlisted // by what is stored as well", ""}},
		tests: "^TestWhatIsReadStays$|^TestReloadWhileSaving$|^TestMapVocabulary$",
	},
	{
		name:  "what has failed is not forgotten while somebody may be told",
		edits: []edit{{"internal/graph/readers.go", " || n.owner.g.mayBeTold(n)", ""}},
		tests: "^TestFailsOnceHoweverMany$|^TestReloadWhileSaving$|^TestMapVocabulary$",
	},
	{
		name:  "entries without a value that nobody needs go",
		edits: []edit{{"prune.go", "\t\tc.pruneNow(t, s)\n", ""}},
		tests: "^TestKeysThatGo$|^TestReloadWhileSaving$|^TestMapVocabulary$",
	},
	{
		name:  "registration of what a run reads",
		edits: []edit{{"internal/graph/run.go", "n.watched = true\n\t} else {\n\t\tn.join(y)\n\t}", "n.watched = true\n\t}"}},
		tests: "^TestBuilderSeesOneInstant$",
	},
	{
		name: "the edge is recorded before the value is copied",
		edits: []edit{
			{"get.go", "n = e.node\n\tclean := n == nil", "n = e.node\n\tearly := e.state()\n\tif g.frame != nil {\n\t\ts.mu.RUnlock()\n\t\ttime.Sleep(time.Millisecond)\n\t\ts.mu.RLock()\n\t}\n\tclean := n == nil"},
			{"get.go", "st := e.state()\n\ts.mu.RUnlock()\n\tif !clean {", "st := early\n\ts.mu.RUnlock()\n\tif !clean {"},
			{"get.go", "import (\n\t\"context\"\n", "import (\n\t\"context\"\n\t\"time\"\n"},
		},
		tests: "^TestChangeWhileReading$",
	},
	{
		name:  "what is read again is what is asked for",
		edits: []edit{{"get.go", "e.key != g.k ||", "false ||"}},
		tests: "^TestReadAgain$",
	},
	{
		name:  "what is read again is what the builder will be told of",
		edits: []edit{{"get.go", "switch r.Read(n) {", "switch _ = r; graph.Untracked {"}},
		tests: "^TestReadAgain$",
	},
	{
		name:  "a node goes along with an entry that is moved",
		edits: []edit{{"table.go", "graph.SetEntry(e.node, copied)", "graph.SetEntry(e.node, e)"}},
		tests: "^TestReadAgainMoved$",
	},
	{
		name:  "a write marks",
		edits: []edit{{"write.go", "if wait := c.mark(e, keys); wait != nil {", "if wait := c.mark(&entry[K, V]{}, nil); wait != nil {"}},
		tests: "^TestAbsenceIsOlder$",
	},
	{
		name: "a write marks before it is seen",
		edits: []edit{
			{"write.go", "if wait := c.mark(e, keys); wait != nil {", "if wait := c.mark(&entry[K, V]{}, nil); wait != nil {"},
			{"build.go", "var began = time.Now()", "var began = time.Now()\n\nfunc pause() { time.Sleep(100 * time.Microsecond) }"},
			{"write.go", "\t\ts.mu.Unlock()\n\t\tif changed {\n\t\t\tc.edited(1)\n", "\t\te := s.entries[k]\n\t\ts.mu.Unlock()\n\t\tpause()\n\t\tif e != nil {\n\t\t\tm.graph.Lock()\n\t\t\tc.mark(e, c.keys.Load())\n\t\t\tm.graph.Unlock()\n\t\t}\n\t\tif changed {\n\t\t\tc.edited(1)\n"},
		},
		tests: "^TestSeenChange$",
	},
	{
		name:  "a batch marks",
		edits: []edit{{"batch.go", "return w.c.mark(w.e, w.keys)", "return nil"}},
		tests: "^TestBatchReachesWhatIsBuilt$",
	},
	{
		name:  "stamps are compared with == in checking",
		edits: []edit{{"internal/graph/resolve.go", "if e.Node.Stamp != e.Stamp {", "if e.Node.Stamp > e.Stamp {"}},
		tests: "^TestAbsenceIsOlder$",
	},
	{
		name:  "stamps are compared with == in a run",
		edits: []edit{{"internal/graph/run.go", "if e.Node.Stamp != e.Stamp {", "if e.Node.Stamp > e.Stamp {"}},
		tests: "^TestBuilderSeesOneInstant$",
	},
	{
		name:  "stamps are reserved in each batch",
		edits: []edit{{"save.go", "if b.described && len(b.cuts)+len(b.notes) > 0 {", "if b.described && len(b.cuts) < 0 {"}},
		tests: "^TestStampsAfterCrash$",
	},
	{
		name:  "stamps are reserved where the next Open looks",
		edits: []edit{{"save.go", "if err := b.reserve(ctx); err != nil {", "if err := ctx.Err(); err != nil {"}},
		tests: "^TestStampsAcrossStores$",
	},
	{
		name:  "what is lost elsewhere is not linked",
		edits: []edit{{"link.go", "elsewhere && e.stamp > on.base()", "elsewhere && e.stamp < 0"}},
		tests: "^TestStampsAcrossStores$",
	},
	{
		name:  "invalidation is not undone by comparing",
		edits: []edit{{"internal/graph/node.go", "n.kind = kind\n\tn.Distrust(why)", "n.kind = kind\n\tn.why = why\n\tn.set(Check)"}},
		tests: "^TestInvalidatedIsBuilt$",
	},
	{
		name:  "what was invalidated leaves a fingerprint",
		edits: []edit{{"table.go", "if old, ok := e.old(); ok {", "if old, ok := e.old(); ok && old.kind < absent {"}},
		tests: "^TestInvalidatedAndRestarted$",
	},
	{
		name:  "what was invalidated is built after a restart",
		edits: []edit{{"fetch.go", "if forced || r.version != c.version {", "if r.version != c.version {"}},
		tests: "^TestInvalidatedAndRestarted$",
	},
	{
		name:  "edges are checked in the order of reading",
		edits: []edit{{"internal/graph/resolve.go", "e := &edges[top.next]", "e := &edges[len(edges)-1-int(top.next)]"}},
		tests: "^TestCheckedInOrder$",
	},
	{
		name:  "why something is to be built is forgotten with the lock",
		edits: []edit{{"internal/graph/resolve.go", "s.path[len(s.path)-1].why = nil", "_ = s.path"}},
		tests: "^TestReasonMayPass$",
		in:    "./internal/graph",
	},
	{
		name:  "what fails is no reason to build what has not read it",
		edits: []edit{{"internal/graph/resolve.go", "case top.edges != top.node.edges && top.node.owner.whole != n:", "case false:"}},
		tests: "^TestReasonOfOther$",
		in:    "./internal/graph",
	},
	{
		name:  "edges that are new are checked from the first on",
		edits: []edit{{"internal/graph/resolve.go", "if top.edges != x.edges {", "if false {"}},
		tests: "^TestOrderOfOther$",
		in:    "./internal/graph",
	},
	{
		name:  "what is being built stays in lists if it is dead",
		edits: []edit{{"internal/graph/readers.go", "return n.run() != nil\n\t}", "return !n.dead()\n\t}"}},
		tests: "^TestDeadIsBuiltOfOneInstant$",
		in:    "./internal/graph",
	},
	{
		name:  "a circle of the past is none",
		edits: []edit{{"internal/graph/resolve.go", "is && g.past(circle) {", "is && g.past(circle) && g.nodes.Load() < 0 {"}},
		tests: "^TestCircleOfThePast$",
	},
	{
		name: "a run is told that what it has read cannot be kept any more",
		edits: []edit{
			{"internal/graph/run.go", "|| run != nil && run.outcome == Volatile {", "|| run != nil && run.outcome == Unfinished {"},
			{"internal/graph/run.go", "root: n}", "root: n, asks: true}"},
		},
		tests: "^TestBecomesVolatile$",
	},
	{
		name:  "what has read something else is saved though it is the same",
		edits: []edit{{"build.go", "compared.identical && b.SameReads()", "compared.identical"}},
		tests: "^TestAskedAndTheSame$",
	},
	{
		name:  "who goes on without what a builder that ended the goroutine was to make is not kept",
		edits: []edit{{"internal/graph/resolve.go", "if exits && s.asker != nil &&", "if exits && false &&"}},
		tests: "^TestExitOfPart$",
	},
	{
		name:  "an equal value keeps its stamp",
		edits: []edit{{"internal/graph/run.go", "} else if !same || stamp == 0 {", "} else if !same || stamp >= 0 {"}},
		tests: "^TestEqualResultStopsChange$",
	},
	{
		name:  "what a probe has read is checked before it is asked",
		edits: []edit{{"internal/graph/resolve.go", "case x.kind == Probed && !x.Asked():", "case x.kind == Probed:"}},
		tests: "^TestAskedWhenTold$",
	},
	{
		name:  "a probe is asked when its entry is doubted",
		edits: []edit{{"internal/graph/node.go", "n.word.And(3)", "n.word.And(^uint64(0))"}},
		tests: "^TestAskedWhenTold$",
	},
	{
		name:  "a probe is asked when its cache is doubted",
		edits: []edit{{"internal/graph/graph.go", "o.doubted = o.suspect", "o.doubted += 0"}},
		tests: "^TestAskedWhenTold$",
	},
	{
		name:  "edges are looked at again after the lock was released",
		edits: []edit{{"internal/graph/resolve.go", "if top.since != s.releases {", "if top.since > s.releases {"}},
		tests: "^TestCheckedAtOneInstant$",
	},
	{
		name:  "who wants an evicted value marks what was computed from it",
		edits: []edit{{"limit.go", "g.Mark(e.node) //", "//"}},
		tests: "^TestEvictedAndFailed$",
	},
	{
		name:  "what is marked is not seen to be clean without a look",
		edits: []edit{{"internal/graph/node.go", "n.owner.marks.Add(1)", "n.owner.marks.Add(0)"}},
		tests: "^TestSeenClean$",
	},
	{
		name:  "what is not listed any more is entered again",
		edits: []edit{{"internal/graph/readers.go", "for _, y := range above[:kept] {\n\t\t\t\t\tx.unlist(y)\n\t\t\t\t}", ""}},
		tests: "^TestLongLists$",
		in:    "./internal/graph",
	},
	{
		name:  "a wave waits for its front",
		edits: []edit{{"internal/graph/readers.go", "root.front++", ""}},
		tests: "^TestChangeThatComesToNothing$",
	},
	{
		name:  "who has read what changes on a wave is of its front",
		edits: []edit{{"internal/graph/wave.go", "y.ahead()", "_ = y"}},
		tests: "^TestChangeThatComesToNothing$|^TestWaveWhileSetByHand$",
	},
	{
		name:  "waves that meet become one",
		edits: []edit{{"internal/graph/wave.go", "return root.join(other)", "return root"}},
		tests: "^TestChangesThatMeet$",
	},
	{
		name:  "what a wave has come by is watched when that settles",
		edits: []edit{{"internal/graph/wave.go", "n.watched = n.lenAbove > 0", ""}},
		tests: "^TestChangeThatComesToNothing$",
	},
	{
		name:  "a list that is emptied breaks the wave",
		edits: []edit{{"internal/graph/readers.go", "root.broke = root.broke || x != n", ""}},
		tests: "^TestWaveOfLongList$",
	},
	{
		name:  "a long list of what was not checked is not kept",
		edits: []edit{{"internal/graph/readers.go", "passed < kept/2", "false"}},
		tests: "^TestLongLists$",
		in:    "./internal/graph",
	},
	{
		name:  "what is dead does not become clean with its wave",
		edits: []edit{{"internal/graph/wave.go", "!n.dead() && ", ""}},
		tests: "^TestWaveSettlesWithoutTheDead$",
		in:    "./internal/graph",
	},
	{
		name:  "what has read what is forgotten does not become clean with its wave",
		edits: []edit{{"internal/graph/node.go", "n.advance()\n\tn.epoch", "n.epoch"}},
		tests: "^TestForgottenOnWave$",
		in:    "./internal/graph",
	},
	{
		name:  "what is brought up to date at a look has the stamps that were read",
		edits: []edit{{"internal/graph/resolve.go", "if !e.Node.clean() || e.Node.Stamp != e.Stamp {\n\t\t\treturn false", "if !e.Node.clean() {\n\t\t\treturn false"}},
		tests: "^TestBuild$",
	},
	{
		name:  "what was not linked is not brought up to date at a look",
		edits: []edit{{"internal/graph/resolve.go", " || n.Saved() != \"\" {", " {"}},
		tests: "^TestBuildOfLost$",
	},
	{
		name:  "what fails is called once for all that are brought up to date",
		edits: []edit{{"bring.go", "g.Resolve(ctx, q, n)", "g.Resolve(ctx, nil, n)"}},
		tests: "^TestBuildFailures$",
	},
	{
		name:  "who reads for a builder looks whether that has returned",
		edits: []edit{{"internal/graph/frame.go", "\tif c.Run() == nil {", "\tif false {"}},
		tests: "^TestLateReader$",
		in:    "./internal/graph",
	},
	{
		name:  "a run that others may have is not used again",
		edits: []edit{{"internal/flight/flight.go", "return r.ctx.run.Load() == nil && r.callers.Load() == 1", "return true"}},
		tests: "^TestAlone$",
		in:    "./internal/flight",
	},
	{
		name:  "what has failed is not begun anew by each who asks",
		edits: []edit{{"internal/graph/request.go", "q.failed[n] = r\n", "q.failed[n] = nil\n"}},
		tests: "^TestFailingLadder$",
	},
	{
		name:  "who asks again is not put off",
		edits: []edit{{"internal/graph/request.go", "again {", "again && false {"}},
		tests: "^TestFailingLadder$",
	},
	{
		name:  "an evicted value has a fingerprint",
		edits: []edit{{"equal.go", "fingerprint(b) == was.raw", "fingerprint(b) == \"\""}},
		tests: "^TestEvictedAndWanted$",
	},
	{
		name:  "an evicted value leaves what it was computed from",
		edits: []edit{{"limit.go", "st.kind = dropped //", "//"}},
		tests: "^TestEvictedAndWanted$",
	},
	{
		name:  "a reader's stamps are none of the writer's",
		edits: []edit{{"manager.go", "m.graph.Raise(unsaved)", "m.graph.Raise(0)"}},
		tests: "^TestStampsOfReaders$",
	},
	{
		name:  "who reads looks whether the entries have moved",
		edits: []edit{{"cache.go", "if !s.moved {", "if true {"}},
		tests: "^TestInterleavings$/^moves",
		stops: true,
	},
	{
		name:  "who reads without a builder looks whether the entries have moved",
		edits: []edit{{"cache.go", "e.kind == decoded && !s.moved", "e.kind == decoded"}},
		tests: "^TestInterleavings$/^moves",
		stops: true,
	},
	{
		name:  "what is being saved is kept when the entries move",
		edits: []edit{{"table.go", "from.before[e] = e.version()", ""}},
		tests: "^TestMoveWhileSaving$",
	},
	{
		name:  "who has saved looks whether the entries have moved",
		edits: []edit{{"save.go", "saved && !s.moved && ", "saved && "}},
		tests: "^TestMoveWhileSavingDeletion$",
	},
	{
		name:  "what another version has built is not trusted",
		edits: []edit{{"fetch.go", "if forced || r.version != c.version {", "if forced {"}},
		tests: "^TestOtherVersionIsBuilt$",
	},
	{
		name:  "another value than was saved is not taken for that",
		edits: []edit{{"annotated.go", "n.holds() && n.value == value {", "n.holds() {"}},
		tests: "^TestValuesEdited$",
	},
	{
		name:  "a builder's result is noted as not known before it is written",
		edits: []edit{{"annotated.go", "b.before = append(b.before, store.Op{Kind: store.Put, Cache: note.Cache, Key: op.Key})", ""}},
		tests: "^TestValuesHalfSaved$",
	},
	{
		name:  "what is kept apart is compared with what it depends on",
		edits: []edit{{"standing.go", "if stands {", "if stands || true {"}},
		tests: "^TestKeptApart$",
	},
	{
		name:  "who was invalidated while not registered takes nothing along that was set since",
		edits: []edit{{"standing.go", "told && d.At < at && at <= st.Touched", "false"}},
		tests: "^TestCircleKeptApart$",
	},
	{
		name:  "what happens to a cache in memory on the way is noted",
		edits: []edit{{"lane.go", "(wanted || c.dropped) || s.lane == nil)", "(wanted || c.dropped))"}},
		tests: "^TestStandingInMemory$",
	},
	{
		name:  "what is being saved elsewhere is unsure",
		edits: []edit{{"standing.go", "saving.Unsure = true", "saving.Unsure = false"}, {"standing.go", "st.Unsure = st.Unsure || before", "st.Unsure = st.Unsure || false"}},
		tests: "^TestKeptApart$",
	},
	{
		name:  "the version of a cache in memory is part of what was read through it",
		edits: []edit{{"hand.go", "case isVersion && d.rest != c.handVersion():", "case false:"}},
		tests: "^TestVersionInMemory$",
	},
	{
		name:  "keys that come and go while they are added up are not lost",
		edits: []edit{{"digest.go", "if l.version == version {", "if version > 0 {"}},
		tests: "^TestKeysChangeMeanwhile$",
	},
}
