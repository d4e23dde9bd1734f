// Command bench tells how fast hull is, side by side with whatever peers this machine has: a C program that makes the
// same container and nothing else (floor/floor.c), crun, podman, docker, and curl | pigz | tar. `make bench` is this program.
//
//	bench [-row start,user,fifty,detached,exec,memory,ps,rm,series,pull,again,ten,push,save,load,images,prune,net,netstart,helper,size,init] [-n 50] [-pulls 3]
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

	"github.com/vishvananda/netns"
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
	peer     netns.NsHandle
	noDisk   error // why a run cannot have a file system of its own
}

// row is one line, or a group of lines, of the table of goals.
type row struct {
	name, about string
	measure     func(*bench) error
}

var rows = []row{
	{"start", "run --rm --network none busybox true, as root", func(b *bench) error { return b.start("root") }},
	{"user", "the same as an ordinary user", func(b *bench) error { return b.start("user") }},
	{"oneid", "the same without subordinate ids", (*bench).oneID},
	{"fifty", "50 at once, until the last has ended", (*bench).fifty},
	{"detached", "run -d --network none busybox sleep, until it returns", (*bench).detached},
	{"exec", "exec CONTAINER true, as root and as an ordinary user", (*bench).exec},
	{"memory", "what stays with each of 50 running containers, proportional set size", (*bench).memory},
	{"ps", "ps with 50 running", (*bench).listing},
	{"rm", "rm -f of 50 running", (*bench).removal},
	{"series", "200 detached starts one after the other, all kept running", (*bench).series},
	{"pull", "cold pull of a big image, and its peak memory", (*bench).pull},
	{"again", "pull when all is there", (*bench).again},
	{"ten", "ten cold pulls of the big image at once, into one store, against one", (*bench).tenPulls},
	{"push", "push of the big image into an empty registry, and its peak memory", (*bench).pushBig},
	{"save", "save of the big image to a file, likewise", (*bench).saveBig},
	{"load", "load of it into an empty store, of an archive as hull saves it and as docker does, likewise", (*bench).loadBig},
	{"images", "images with 500 in the store", (*bench).images},
	{"prune", "image prune -a of 200 images", (*bench).prune},
	{"net", "throughput and 1-byte round trips, out to another machine and in through a published port", (*bench).network},
	{"netstart", "run with the default network, less run --network none", (*bench).networkStart},
	{"helper", "the processes beside containers: an ordinary user's network, root's names and lists", (*bench).helper},
	{"size", "the binary", (*bench).size},
	{"init", "package initialisers", (*bench).initialisers},
}

func main() {
	chosen := flag.String("row", "", "rows to measure, separated by commas (default all)")
	n := flag.Int("n", 50, "runs of each contestant in a row of starts")
	pulls := flag.Int("pulls", 3, "runs of each contestant in a row of big transfers")
	flag.Parse()
	if os.Getenv(talkEnv) != "" {
		fmt.Fprintln(os.Stderr, "talk:", talk())
		os.Exit(1)
	}
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
	err := copyProgram(to, b.hull)
	b.hull = to
	if os.IsNotExist(err) {
		b.hull = ""
		b.miss("hull: not built")
		return nil
	}
	return err
}

// copyProgram writes a program in one write, as `make build` does: where the file system's cache has huge pages it lies in
// them then. Read from the disk, as after a boot, it lies in smaller ones, and starts more slowly.
func copyProgram(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

func (b *bench) miss(format string, args ...any) {
	if m := fmt.Sprintf(format, args...); !slices.Contains(b.missing, m) {
		b.missing = append(b.missing, m)
	}
}
