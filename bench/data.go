package main

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strconv"
)

// keySize and valueSize are those of the store suite's entries; the hit suite
// has the same keys.
const (
	keySize   = 16
	valueSize = 100
)

// mix64 and unmix64 are inverse permutations of the 64-bit numbers, so that
// keys look random, all differ, and lead back to their index.
func mix64(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func unmix64(x uint64) uint64 {
	x = (x ^ x>>31 ^ x>>62) * 0x319642b2d24d8ec3
	x = (x ^ x>>27 ^ x>>54) * 0x96de1b173f119089
	return x ^ x>>30 ^ x>>60
}

// appendKey appends the key of entry i: 16 hexadecimal digits.
func appendKey(b []byte, i int) []byte {
	return hex.AppendEncode(b, binary.BigEndian.AppendUint64(nil, mix64(uint64(i)+1)))
}

func keyOf(i int) string { return string(appendKey(nil, i)) }

// indexOf is the inverse of keyOf; -1 for what is no key.
func indexOf(key string) int {
	x, err := strconv.ParseUint(key, 16, 64)
	if err != nil {
		return -1
	}
	return int(unmix64(x)) - 1
}

// makeKeys returns the keys of the given entries, their bytes side by side in
// one array: as fresh in the processor's cache, one after the other, as keys
// that a program has just put together.
func makeKeys(index func(yield func(int) bool), count int) []string {
	arena := make([]byte, 0, count*keySize)
	for i := range index {
		arena = appendKey(arena, i)
	}
	all := string(arena)
	keys := make([]string, len(all)/keySize)
	for k := range keys {
		keys[k] = all[k*keySize : (k+1)*keySize]
	}
	return keys
}

// appendValue appends the value of entry i after gen changes: half of it is
// random, half the same in every entry.
func appendValue(b []byte, i, gen int) []byte {
	x := uint64(i)<<20 ^ uint64(gen)
	for k := range valueSize / 2 / 8 {
		b = binary.LittleEndian.AppendUint64(b, mix64(x*0x9e3779b97f4a7c15+uint64(k)+1))
	}
	b = append(b, byte(i), byte(gen))
	return append(b, "the same fifty bytes at the end of every value ...."[:valueSize/2]...)
}

func valueOf(i, gen int) []byte { return appendValue(make([]byte, 0, valueSize), i, gen) }

// rng is a source of the same random numbers for every system.
func rng(purpose string, seed int) *rand.Rand {
	h := uint64(seed)
	for _, c := range purpose {
		h = mix64(h ^ uint64(c))
	}
	return rand.New(rand.NewPCG(h, 1))
}

// shuffled returns 0…n-1 in a random order.
func shuffled(n int, r *rand.Rand) []int { return r.Perm(n) }

// sortedKeys returns the keys of m in order.
func sortedKeys(m map[string][]byte) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
