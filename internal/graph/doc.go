// Package graph is the engine: it knows which entries were computed from which,
// finds out which of them may be stale, and sees to it that exactly those that
// really are get built again. It knows nothing of keys, values, disks or
// networks; caches tell it about those through [Type] and [Task].
//
// # How it works
//
// A [Node] stands for an entry. An input has a stamp, the revision at which its
// value last changed. What a builder reads becomes the edges of the entry it
// builds, each with the stamp that was read.
//
// A write pushes: it marks everything above the input, as far as it was clean, as
// to be checked, and then gives the input its new value. A read pulls: of a node
// that is to be checked it compares the stamps of its edges, in the order in
// which they were read, bringing each to clean first. The first that differs
// stops the search, and the builder runs. If what it makes equals the old value
// the node keeps its stamp, so that whoever read it is still right: the cutoff. If
// all that have read the input turn out to be what they were, whatever lies above
// them is clean again at once: see wave.
//
// A run of a builder is registered with everything it has read. A write to any
// of that poisons it. At its next read, and before its result is published, a
// poisoned run has its edges checked like those of a node; if one has really
// changed it begins again. So a builder never sees a mixture of old and new,
// and nothing is published that is out of date.
//
// A result that cannot be kept, because the builder failed or made do with the
// failure of another, is known for the rest of the call from outside that has led
// to it: see request.
//
// # The lock
//
// One mutex guards nodes, edges and runs. A clean node is recognized without
// it, by one atomic load. No user code runs under it, and checking a large
// part of the graph gives way to others now and then.
//
// # Invariants
//
// They are checked by [Graph.Check], and numbered as in the tests.
//
//	I1  A clean node is registered with each of its dependencies, whose stamps
//	    are the recorded ones, and which are clean themselves. Registered
//	    means that it is in the list of that node, and that the list is going
//	    to be followed (Node.above and Node.watched).
//	I2  A stamp is never used twice for different values of an entry.
//	I3  An equal value keeps its stamp.
//	I4  What a running builder has read was current at one instant.
//	I5  A result is published only by a run that is still its node's, and is
//	    not poisoned.
//	I6  What was invalidated explicitly is not revived by comparing stamps.
//	I7  Edges are checked in the order of reading, up to the first change.
//	I8  A node that becomes clean when its wave settles is registered with each of
//	    its dependencies, whose stamps are the recorded ones, and which are on
//	    that wave, too, or clean. A wave waits for all of its front.
//
// The design follows Skyframe (push, then pull with change pruning), DICE
// (long lists of dependents are taken when they are followed), Shake (stamps
// compared for equality) and the timestamp extension of TinySTM.
package graph
