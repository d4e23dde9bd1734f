package cgroups

import (
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// everything limits by four controllers, as a careful user does.
func everything() *specs.LinuxResources {
	r := memory(256*mib, 512*mib)
	r.CPU = &specs.LinuxCPU{Quota: ptr(int64(50000)), Period: ptr(uint64(100000)), Shares: ptr(uint64(512))}
	r.Pids = &specs.LinuxPids{Limit: ptr(int64(100))}
	r.Devices = []specs.LinuxDeviceCgroup{{Access: "rwm"}}
	for i := range int64(12) {
		r.Devices = append(r.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(i), Access: "rwm"})
	}
	return r
}

// BenchmarkLife makes a group with limits and removes it.
func BenchmarkLife(b *testing.B) {
	needRoot(b)
	b.Cleanup(func() { removeParents(b) })
	for _, c := range []struct {
		name string
		r    *specs.LinuxResources
	}{{"bare", nil}, {"memory", memory(256*mib, 512*mib)}, {"everything", everything()}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				g, w, err := New(name(b), c.r, Options{Parent: parent(), Always: true})
				if err != nil || g == nil {
					b.Fatal(g, w, err)
				}
				if err := g.Remove(); err != nil {
					b.Fatal(err)
				}
				g.Close()
			}
		})
	}
}

// BenchmarkAdd moves one process, after a pause, into a group of several controllers.
func BenchmarkAdd(b *testing.B) {
	needRoot(b)
	var times []time.Duration
	for range max(5, min(b.N, 30)) {
		times = append(times, addOnce(b))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "median-µs")
	b.ReportMetric(float64(times[0].Microseconds()), "min-µs")
	b.ReportMetric(0, "ns/op")
}

func addOnce(b *testing.B) time.Duration {
	g, _, err := New(name(b), everything(), Options{Parent: parent()})
	if err != nil || g == nil {
		b.Fatal(err)
	}
	defer dispose(b, g)
	h := startHelper(b, nil)
	defer h.Wait()
	defer h.Process.Kill()
	h.ask("hello")
	time.Sleep(50 * time.Millisecond) // the kernel's wait comes after a rest
	begin := time.Now()
	err = g.Add(h.Process.Pid)
	d := time.Since(begin)
	if err != nil {
		b.Fatal(err)
	}
	return d
}

// BenchmarkFind reads where the hierarchies of version 1 are.
func BenchmarkFind(b *testing.B) {
	for b.Loop() {
		if _, err := hierarchies(); err != nil {
			b.Skip(err)
		}
	}
}
