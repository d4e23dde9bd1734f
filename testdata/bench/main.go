// Command bench tells how fast hull is, side by side with whatever peers this machine has: a C program that makes the
// same container and nothing else (floor/floor.c), crun, podman, docker, and curl | pigz | tar. `make bench` is this program.
//
//	bench [-row start,user,fifty,pull,again,size,init] [-n 50] [-pulls 3]
//
// Whole processes are timed, from their start until they have ended. The contestants of a row take turns in one run,
// in an order that rotates, so that what else happens on the machine meets them all; only ratios inside a row mean
// anything. A peer that is not installed is named as missing.
//
// As root all of this happens in mount, network and process namespaces of the bench's own: the daemons, settings and
// accounts that peers need exist nowhere else and end with it. Only the big image is kept, in ~/.cache/hull/bench.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// bench is what the rows share.
type bench struct {
	n, pulls int
	hull     string // the binary
	work     string // folder for this run, removed at its end
	cache    string // folder that stays
	floor    string // the compiled C program, empty if there is none
	registry string // HOST:PORT on loopback
	docker   string // the daemon's socket, empty if there is none
	people   []person
	missing  []string // peers that could not be had, and why
}

// row is one line, or a group of lines, of the table of goals.
type row struct {
	name, about string
	measure     func(*bench) error
}

var rows = []row{
	{"start", "run --rm --network none busybox true, as root", func(b *bench) error { return b.start("root") }},
	{"user", "the same as an ordinary user", func(b *bench) error { return b.start("user") }},
	{"fifty", "50 at once, until the last has ended", (*bench).fifty},
	{"pull", "cold pull of a big image, and its peak memory", (*bench).pull},
	{"again", "pull when all is there", (*bench).again},
	{"size", "the binary", (*bench).size},
	{"init", "package initialisers", (*bench).initialisers},
}

func main() {
	chosen := flag.String("row", "", "rows to measure, separated by commas (default all)")
	n := flag.Int("n", 50, "runs of each contestant in a row of starts")
	pulls := flag.Int("pulls", 3, "cold pulls by each contestant")
	flag.Parse()
	err := outside()
	if err == nil && inside() {
		b := &bench{n: *n, pulls: *pulls}
		err = b.run(*chosen)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) run(chosen string) error {
	if err := check(chosen); err != nil {
		return err
	}
	defer b.close()
	if err := b.prepare(); err != nil {
		return err
	}
	for _, r := range rows {
		if chosen != "" && !contains(chosen, r.name) {
			continue
		}
		fmt.Printf("\n%s: %s\n", r.name, r.about)
		if err := r.measure(b); err != nil {
			return fmt.Errorf("row %s: %w", r.name, err)
		}
	}
	if len(b.missing) > 0 {
		fmt.Printf("\nNot measured:\n  %s\n", strings.Join(b.missing, "\n  "))
	}
	return nil
}

func contains(list, name string) bool { return strings.Contains(","+list+",", ","+name+",") }

func check(chosen string) error {
	var names []string
	for _, r := range rows {
		names = append(names, r.name)
	}
	for _, name := range strings.FieldsFunc(chosen, func(c rune) bool { return c == ',' }) {
		if !contains(strings.Join(names, ","), name) {
			return fmt.Errorf("row %q: want some of %s", name, strings.Join(names, ", "))
		}
	}
	return nil
}

// prepare makes what every row needs: folders, accounts, the floor, the registry and the small image in it.
func (b *bench) prepare() error {
	var err error
	if b.hull, err = filepath.Abs("bin/hull"); err != nil {
		return err
	}
	b.work = os.Getenv(workEnv)
	if err := os.Chmod(b.work, 0o755); err != nil {
		return err
	}
	home, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	b.cache = filepath.Join(home, "hull", "bench")
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		return err
	}
	for _, step := range []func() error{b.copyHull, b.settle, b.compileFloor, b.serve, b.smallImage} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// copyHull puts the binary where an ordinary user may execute it. Without one only the peers are measured.
func (b *bench) copyHull() error {
	to := filepath.Join(b.work, "hull")
	data, err := os.ReadFile(b.hull)
	if os.IsNotExist(err) {
		b.hull = ""
		b.miss("hull: not built")
		return nil
	}
	if err != nil {
		return err
	}
	b.hull = to
	return os.WriteFile(to, data, 0o755)
}

func (b *bench) miss(format string, args ...any) {
	if m := fmt.Sprintf(format, args...); !slices.Contains(b.missing, m) {
		b.missing = append(b.missing, m)
	}
}
