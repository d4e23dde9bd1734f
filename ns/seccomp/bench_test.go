package seccomp

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func BenchmarkDefault(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Default(dockerCaps, ""); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	p, err := Default(dockerCaps, "")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Compile(p, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCold times the first Default and Compile of fresh processes, which is what a start of a container pays.
func BenchmarkCold(b *testing.B) {
	var times []time.Duration
	for range max(b.N, 30) {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), coldEnv+"=1")
		out, err := cmd.Output()
		if err != nil {
			b.Fatal(err)
		}
		d, err := time.ParseDuration(strings.TrimSpace(string(out)))
		if err != nil {
			b.Fatal(err)
		}
		times = append(times, d)
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Nanoseconds()), "median-ns")
	b.ReportMetric(float64(times[0].Nanoseconds()), "min-ns")
	b.ReportMetric(0, "ns/op")
}

const coldEnv = "HULL_SECCOMP_COLD"

func cold() {
	begin := time.Now()
	p, err := Default(dockerCaps, "")
	if err == nil {
		_, _, err = Compile(p, Options{})
	}
	fmt.Println(time.Since(begin))
	if err != nil {
		os.Exit(1)
	}
}

// BenchmarkInstall times seccomp(2), for the tree and for a list of comparisons with the same verdicts.
func BenchmarkInstall(b *testing.B) {
	p, err := Default(dockerCaps, "")
	if err != nil {
		b.Fatal(err)
	}
	for _, shape := range []string{"tree", "list"} {
		b.Run(shape, func(b *testing.B) {
			var times []int64
			for range max(b.N/20, 10) {
				r, err := do(b, probe{Profile: p, Linear: shape == "list", Times: 3}, nil)
				if err != nil {
					b.Fatal(err)
				}
				times = append(times, r.Times[0])
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2]), "median-ns")
			b.ReportMetric(float64(times[0]), "min-ns")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// linear is the filter as it is often written: one comparison for each allowed call.
func linear(p *specs.LinuxSeccomp) []unix.SockFilter {
	var code []unix.SockFilter
	for _, n := range []int{amd64, x86} {
		var section []unix.SockFilter
		for _, r := range p.Syscalls {
			for _, name := range r.Names {
				if nr, ok := Number(abis[n].arch, name); ok && len(r.Args) == 0 && r.Action == specs.ActAllow {
					section = append(section, unix.SockFilter{Code: opJEQ, K: nr, Jf: 1},
						unix.SockFilter{Code: opRet, K: unix.SECCOMP_RET_ALLOW})
				}
			}
		}
		code = append(code, unix.SockFilter{Code: opLoad, K: offArch}, unix.SockFilter{Code: opJEQ, K: abis[n].audit, Jt: 1},
			unix.SockFilter{Code: opJump, K: uint32(len(section) + 2)}, unix.SockFilter{Code: opLoad, K: offNumber})
		code = append(append(code, section...), unix.SockFilter{Code: opRet, K: unix.SECCOMP_RET_ERRNO | 1})
	}
	return append(code, unix.SockFilter{Code: opRet, K: unix.SECCOMP_RET_KILL_PROCESS})
}
