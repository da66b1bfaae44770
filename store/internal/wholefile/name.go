package wholefile

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

const (
	// nameExt ends the name of a file that holds nothing but a cache's name,
	// where that is too long for the name of a file.
	nameExt = ".name"

	// maxStem leaves room for extensions within the 255 bytes that file
	// systems allow.
	maxStem = 200
)

// escape returns the name of a cache's file, without its extension. Small
// letters, digits, - and _ stand for themselves, any other byte is % and two
// hexadecimal digits. So two names never differ only in their case or in a
// form of their letters, which file systems may not tell apart. Names that
// Windows keeps for devices have their first letter escaped. A name that is
// longer than a file's may be becomes ~ and its hash.
func escape(cache string) string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	for i := range len(cache) {
		c := cache[i]
		if plain(c) && !(i == 0 && isDevice(cache)) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
		if b.Len() > maxStem {
			sum := sha256.Sum256([]byte(cache))
			return "~" + hex.EncodeToString(sum[:])
		}
	}
	return b.String()
}

// unescape returns the cache whose file has this name, if there is one.
func unescape(stem string) (cache string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(stem); i++ {
		if stem[i] != '%' {
			b.WriteByte(stem[i])
			continue
		}
		if i+2 >= len(stem) {
			return "", false
		}
		c, err := hex.DecodeString(stem[i+1 : i+3])
		if err != nil {
			return "", false
		}
		b.Write(c)
		i += 2
	}
	cache = b.String()
	return cache, cache != "" && escape(cache) == stem
}

func isHashed(stem string) bool { return strings.HasPrefix(stem, "~") }

func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// isDevice reports whether Windows takes a file of this name, with whatever
// extension, for a device.
func isDevice(name string) bool {
	switch name {
	case "con", "prn", "aux", "nul":
		return true
	}
	return len(name) == 4 && (name[:3] == "com" || name[:3] == "lpt") && '0' <= name[3] && name[3] <= '9'
}
