package cgroups

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// rules reads rules as they are written into devices.allow (+) and devices.deny (-).
func rules(t testing.TB, text string) []specs.LinuxDeviceCgroup {
	t.Helper()
	var list []specs.LinuxDeviceCgroup
	for _, line := range strings.Split(text, ", ") {
		var r specs.LinuxDeviceCgroup
		f := strings.Fields(line[1:])
		r.Allow, r.Type = line[0] == '+', f[0]
		if len(f) > 1 {
			major, minor, _ := strings.Cut(f[1], ":")
			for s, p := range map[*string]**int64{&major: &r.Major, &minor: &r.Minor} {
				if *s != "*" {
					var n int64
					if _, err := fmt.Sscan(*s, &n); err != nil {
						t.Fatal(err)
					}
					*p = &n
				}
			}
		}
		if len(f) > 2 {
			r.Access = f[2]
		}
		list = append(list, r)
	}
	return list
}

// TestDeviceList has the rules of security/device_cgroup.c, case by case.
func TestDeviceList(t *testing.T) {
	for _, c := range []struct{ rules, want string }{
		{"-a", "devices.deny a"},
		{"+a", "devices.allow a"},
		{"-a, +c 1:3 rwm, +c 136:* rw", "devices.deny a; devices.allow c 1:3 rwm; devices.allow c 136:* rw"},
		{"+c 1:3", "devices.deny a; devices.allow c 1:3 rwm"},
		{"-a, +c 1:3 r, +c 1:3 w", "devices.deny a; devices.allow c 1:3 rw"},
		{"-a, +c 1:3 rwm, -c 1:3 w", "devices.deny a; devices.allow c 1:3 rm"},
		{"-a, +c 1:3 rw, -c 1:3 rw", "devices.deny a"},
		{"-a, +c *:* rwm, -c 1:3 w", "devices.deny a; devices.allow c *:* rwm"},
		{"+a, -b 8:0 w, -b 8:0 m", "devices.allow a; devices.deny b 8:0 wm"},
		{"+a, -b 8:0 rw, +b 8:0 r", "devices.allow a; devices.deny b 8:0 w"},
		{"+c 1:3 r, +a", "devices.allow a"},
		{"-a, +a *:* m", "devices.deny a; devices.allow b *:* m; devices.allow c *:* m"},
		{"-a, +a 5:0 rwm", "devices.deny a; devices.allow b 5:0 rwm; devices.allow c 5:0 rwm"},
	} {
		l, err := newDeviceList(rules(t, c.rules))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range l.settings() {
			got = append(got, s.file+" "+s.value)
		}
		if g := strings.Join(got, "; "); g != c.want {
			t.Errorf("%s: %s, want %s", c.rules, g, c.want)
		}
	}
	for text, want := range map[string]string{"+x 1:2 r": `unknown type "x"`, "+c 1:2 rx": `access "rx": want letters of rwm`} {
		if _, err := newDeviceList(rules(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// interpret runs the few instructions that deviceProgram uses.
func interpret(t *testing.T, code []byte, kind byte, major, minor int64, access uint8) bool {
	t.Helper()
	ctx := []uint32{uint32(access)<<16 | map[byte]uint32{'b': 1, 'c': 2}[kind], uint32(major), uint32(minor)}
	var r [11]uint64
	for pc := 0; pc < len(code)/8; pc++ {
		i := code[8*pc : 8*pc+8]
		dst, src := i[1]&15, i[1]>>4
		off, imm := int16(binary.LittleEndian.Uint16(i[2:])), uint64(int64(int32(binary.LittleEndian.Uint32(i[4:]))))
		switch i[0] {
		case 0x61:
			r[dst] = uint64(ctx[off/4])
		case 0xbf:
			r[dst] = r[src]
		case 0xb7:
			r[dst] = imm
		case 0x77:
			r[dst] >>= imm
		case 0x57:
			r[dst] &= imm
		case 0x55:
			if r[dst] != imm {
				pc += int(off)
			}
		case 0x15:
			if r[dst] == imm {
				pc += int(off)
			}
		case 0x95:
			return r[0] == 1
		default:
			t.Fatalf("opcode %#x", i[0])
		}
	}
	t.Fatal("the program runs over its end")
	return false
}

// TestDeviceProgram compares the program for version 2 with the list, for random rules.
func TestDeviceProgram(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	number := func() *int64 {
		n := int64(rnd.IntN(4)) - 1
		if n < 0 {
			return nil
		}
		return &n
	}
	for range 500 {
		var list []specs.LinuxDeviceCgroup
		for range rnd.IntN(8) {
			list = append(list, specs.LinuxDeviceCgroup{Allow: rnd.IntN(2) == 0, Type: []string{"a", "b", "c", ""}[rnd.IntN(4)],
				Major: number(), Minor: number(), Access: []string{"", "r", "w", "m", "rw", "rwm", "wm"}[rnd.IntN(7)]})
		}
		l, err := newDeviceList(list)
		if err != nil {
			t.Fatal(err)
		}
		code := deviceProgram(l)
		for _, kind := range []byte("bc") {
			for n := range int64(9) {
				for access := uint8(1); access < 8; access++ {
					major, minor := n/3, n%3
					if got, want := interpret(t, code, kind, major, minor, access), l.allows(kind, major, minor, access); got != want {
						t.Fatalf("%+v: %c %d:%d access %d: program says %v, list %v", list, kind, major, minor, access, got, want)
					}
				}
			}
		}
	}
}
