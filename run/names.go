package run

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"
)

// NewID returns a fresh container ID: 64 hexadecimal digits. Its first twelve, which become the host name,
// are never all decimal, because programs take a numeric host name for an address.
func NewID() string {
	var raw [32]byte
	for {
		rand.Read(raw[:]) // never fails: the runtime ends the program rather than return less than random bytes
		id := hex.EncodeToString(raw[:])
		if _, err := strconv.ParseUint(ShortID(id), 10, 64); err != nil {
			return id
		}
	}
}

// ShortID is the form in which an ID is shown: its first twelve digits.
func ShortID(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}

// RandomName returns adjective_surname, a name for a container whose user gave none. taken says which names are in use;
// after a few collisions a digit is added, so that a host full of containers still finds one. taken may be nil.
func RandomName(taken func(string) bool) string {
	for try := 0; ; try++ {
		name := pick(adjectives[:]) + "_" + pick(surnames[:])
		if try > 4 {
			name += strconv.Itoa(try - 4)
		}
		if taken == nil || !taken(name) {
			return name
		}
	}
}

// pick chooses evenly enough: both lists are far shorter than 65536.
func pick(list []string) string {
	var raw [2]byte
	rand.Read(raw[:])
	return list[(int(raw[0])<<8|int(raw[1]))%len(list)]
}

// The words are chosen to be short, kind and easy to say on the telephone. The surnames belong to people who
// built ships, charts, engines and machines that compute, or who taught others how.
var adjectives = [...]string{
	"able", "amber", "ample", "apt", "august", "autumn", "azure", "balmy", "blithe", "bold", "brave", "breezy", "bright",
	"brisk", "calm", "candid", "careful", "cheery", "civil", "clear", "clever", "copper", "cosy", "crisp", "curious", "daring",
	"dawn", "deft", "eager", "early", "earnest", "easy", "elated", "fair", "fearless", "fleet", "fond", "frank", "fresh",
	"gallant", "generous", "gentle", "glad", "golden", "graceful", "grand", "hale", "handy", "happy", "hardy", "hearty",
	"helpful", "honest", "hopeful", "humble", "jaunty", "jolly", "jovial", "keen", "kind", "lively", "loyal", "lucid",
	"lucky", "mellow", "merry", "mild", "modest", "neat", "nimble", "noble", "ocean", "patient", "placid", "plucky",
	"polite", "prompt", "proud", "quick", "quiet", "ready", "robust", "rosy", "rustic", "sandy", "serene", "silver",
	"sincere", "smooth", "snug", "solid", "sound", "spry", "steady", "stout", "sturdy", "sunny", "sure", "swift", "tidal",
	"tidy", "true", "upbeat", "vivid", "warm", "wise", "witty", "young", "zesty",
}

var surnames = [...]string{
	"abel", "agnesi", "allen", "babbage", "backus", "banneker", "bardeen", "barbour", "bartik", "bessel", "bohr", "boole",
	"bowditch", "brahe", "braille", "brunel", "cayley", "clarke", "cochran", "cook", "curie", "dijkstra", "drebbel", "easley",
	"eckert", "erdos", "ericsson", "euler", "faraday", "fermat", "fibonacci", "fitzroy", "floyd", "fourier", "franklin",
	"fulton", "galois", "gauss", "germain", "goldberg", "hamilton", "harrison", "herschel", "hoare", "holberton", "hopper",
	"hypatia", "iverson", "jacquard", "johnson", "joule", "kepler", "kilburn", "knuth", "kovalevskaya", "lagrange", "lamarr",
	"laplace", "leibniz", "liskov", "lovelace", "lynch", "magellan", "maury", "maxwell", "mccarthy", "meitner", "mendel",
	"mercator", "mirzakhani", "mitchell", "napier", "naur", "newton", "nightingale", "noether", "nygaard", "oersted", "ohm",
	"parsons", "pascal", "perlis", "planck", "polya", "postel", "ramanujan", "ride", "riemann", "ritchie", "sammet",
	"shannon", "simonyi", "slocum", "somerville", "spence", "stevin", "tasman", "tesla", "thales", "turing",
	"vaughan", "volta", "watt", "wilkes", "wilkins", "williams", "wing", "wirth", "wright", "zhang", "zuse",
}
