package cgroups

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// A deviceList says which devices may be opened and made: a rule for all, and exceptions from it. That is how version 1
// keeps the list in the kernel (security/device_cgroup.c); version 2 has a program do it, see deviceProgram.
type deviceList struct {
	allow      bool // what holds where no exception does
	exceptions []device
}

// A device is one or many: kind is c or b, and anyNumber stands for all majors or minors.
type device struct {
	kind         byte
	major, minor int64
	access       uint8
}

const anyNumber = -1

// What is done to a device, with the numbers of the kernel's BPF_DEVCG_ACC_*.
const (
	accessMknod = 1 << iota
	accessRead
	accessWrite
	accessAll = accessMknod | accessRead | accessWrite
)

// newDeviceList applies rules in their order. Before the first, nothing is allowed.
func newDeviceList(rules []specs.LinuxDeviceCgroup) (*deviceList, error) {
	var l deviceList
	for _, r := range rules {
		access, err := parseAccess(r.Access)
		if err != nil {
			return nil, fmt.Errorf("device rule %s: %w", ruleText(r), err)
		}
		d := device{major: anyNumber, minor: anyNumber, access: access}
		if r.Major != nil {
			d.major = *r.Major
		}
		if r.Minor != nil {
			d.minor = *r.Minor
		}
		switch r.Type {
		case "c", "b":
			d.kind = r.Type[0]
			l.apply(r.Allow, d)
		case "a", "":
			l.applyBoth(r.Allow, d)
		default:
			return nil, fmt.Errorf("device rule %s: unknown type %q", ruleText(r), r.Type)
		}
	}
	return &l, nil
}

// applyBoth is for rules without a type: alone with no number and all access they set the rule for all.
func (l *deviceList) applyBoth(allow bool, d device) {
	if d.major < 0 && d.minor < 0 && d.access == accessAll {
		*l = deviceList{allow: allow}
		return
	}
	for _, d.kind = range []byte("bc") {
		l.apply(allow, d)
	}
}

// apply is one write to devices.allow or devices.deny. A rule that goes against the one for all adds an exception, or
// access to it; one that goes with it takes access from the exception for exactly these numbers.
func (l *deviceList) apply(allow bool, d device) {
	i := slices.IndexFunc(l.exceptions, func(e device) bool {
		return e.kind == d.kind && e.major == d.major && e.minor == d.minor
	})
	switch {
	case allow == l.allow && i < 0:
	case allow == l.allow:
		if l.exceptions[i].access &^= d.access; l.exceptions[i].access == 0 {
			l.exceptions = slices.Delete(l.exceptions, i, i+1)
		}
	case i < 0:
		l.exceptions = append(l.exceptions, d)
	default:
		l.exceptions[i].access |= d.access
	}
}

// allows is what the kernel answers. Several kinds of access at once must all be in one exception to be allowed by it,
// but it needs only one to be denied.
func (l *deviceList) allows(kind byte, major, minor int64, access uint8) bool {
	for _, e := range l.exceptions {
		hit := e.kind == kind && (e.major < 0 || e.major == major) && (e.minor < 0 || e.minor == minor)
		if hit && (l.allow && e.access&access != 0 || !l.allow && access&^e.access == 0) {
			return !l.allow
		}
	}
	return l.allow
}

// settings are the writes that bring a new group of version 1 to this list.
func (l *deviceList) settings() []setting {
	files := map[bool]string{true: "devices.allow", false: "devices.deny"}
	p := []setting{{controller: "devices", file: files[l.allow], value: "a", flag: FlagDevices}}
	for _, e := range l.exceptions {
		p = append(p, setting{controller: "devices", file: files[!l.allow], value: e.String(), flag: FlagDevices})
	}
	return p
}

// String is the device in the words of devices.allow: c 1:3 rwm.
func (d device) String() string {
	var b strings.Builder
	b.WriteByte(d.kind)
	for i, n := range []int64{d.major, d.minor} {
		b.WriteByte(" :"[i])
		if n < 0 {
			b.WriteByte('*')
		} else {
			b.WriteString(signed(n))
		}
	}
	b.WriteByte(' ')
	for i, bit := range []uint8{accessRead, accessWrite, accessMknod} {
		if d.access&bit != 0 {
			b.WriteByte("rwm"[i])
		}
	}
	return b.String()
}

// parseAccess reads letters of rwm; none at all means all.
func parseAccess(s string) (uint8, error) {
	if s == "" {
		return accessAll, nil
	}
	var access uint8
	for _, c := range s {
		switch c {
		case 'r':
			access |= accessRead
		case 'w':
			access |= accessWrite
		case 'm':
			access |= accessMknod
		default:
			return 0, fmt.Errorf("access %q: want letters of rwm", s)
		}
	}
	return access, nil
}

func ruleText(r specs.LinuxDeviceCgroup) string {
	d := device{kind: '?', major: anyNumber, minor: anyNumber}
	if r.Type != "" {
		d.kind = r.Type[0]
	}
	if r.Major != nil {
		d.major = *r.Major
	}
	if r.Minor != nil {
		d.minor = *r.Minor
	}
	return strings.TrimSpace(d.String()) + " " + r.Access
}
