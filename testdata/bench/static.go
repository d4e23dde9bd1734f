package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// size is the binary as it is built, stripped.
func (b *bench) size() error {
	if b.hull == "" {
		fmt.Println("  not measured")
		return nil
	}
	info, err := os.Stat(b.hull)
	if err != nil {
		return err
	}
	mb := float64(info.Size()) / 1e6
	fmt.Printf("  %.2f MB, must ≤ 20, aim ≤ 15: %s\n", mb, goal{"", 20, 15}.verdict(mb))
	return nil
}

// initialisers adds up what the packages do before main, which every start pays: in hull as it is called, and in hull
// re-executed, where package ns/early takes over as soon as it is initialised. The variable makes it do so; with a
// descriptor that is not open it ends there.
func (b *bench) initialisers() error {
	if b.hull == "" {
		fmt.Println("  not measured")
		return nil
	}
	for _, part := range []struct {
		name, env string
		goal      goal
	}{{"parent", "", goal{"", 2, 2}}, {"re-executed child", "_HULL_RESUME=1000000", goal{"", 0.4, 0.4}}} {
		if err := b.trace(part.name, part.env, part.goal); err != nil {
			return err
		}
	}
	return nil
}

// initTime is one package's initialisers.
type initTime struct {
	pkg string
	ms  float64
}

func (b *bench) trace(name, env string, g goal) error {
	var best []initTime
	for range 20 { // the quietest run: the work is the same in each
		inits, err := b.traceOnce(env)
		if err != nil {
			return err
		}
		if best == nil || sum(inits) < sum(best) {
			best = inits
		}
	}
	ms := sum(best)
	fmt.Printf("  %s: %.2f ms in %d packages, must ≤ %g: %s\n", name, ms, len(best), g.must, g.verdict(ms))
	slices.SortFunc(best, func(a, b initTime) int { return cmp.Compare(b.ms, a.ms) })
	for _, t := range best[:min(5, len(best))] {
		fmt.Printf("    %.3f ms  %s\n", t.ms, t.pkg)
	}
	return nil
}

func sum(inits []initTime) (ms float64) {
	for _, t := range inits {
		ms += t.ms
	}
	return ms
}

// traceOnce reads the lines `init PKG @0.5 ms, 0.03 ms clock, 100 bytes, 3 allocs` that the runtime writes.
func (b *bench) traceOnce(env string) ([]initTime, error) {
	cmd := exec.Command(b.hull, "version")
	cmd.Env = append(b.people[0].env(), "GODEBUG=inittrace=1", env)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil && (env == "" || !errors.As(err, new(*exec.ExitError))) {
		return nil, fmt.Errorf("hull version: %w: %s", err, lastLines(stderr.String()))
	}
	var inits []initTime
	for lines := bufio.NewScanner(strings.NewReader(stderr.String())); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 7 || words[0] != "init" || words[6] != "clock," {
			continue
		}
		ms, err := strconv.ParseFloat(words[4], 64)
		if err != nil {
			return nil, fmt.Errorf("parse %q: %w", lines.Text(), err)
		}
		inits = append(inits, initTime{words[1], ms})
	}
	if len(inits) == 0 {
		return nil, errors.New("the runtime traced no initialiser")
	}
	return inits, nil
}
