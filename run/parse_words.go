package run

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/moby/sys/signal"
)

// ParseSignal reads the name of a signal, with or without SIG and in any case (SIGRTMIN+3 too), or its number, 1 to 64.
func ParseSignal(s string) (syscall.Signal, error) {
	sig, err := signal.ParseSignal(strings.TrimSpace(s))
	if err != nil || sig < 1 || sig > 64 {
		return 0, fmt.Errorf("signal %q: Invalid signal", s)
	}
	return sig, nil
}

// ParseUser splits -u, NAME|UID[:GROUP|GID], without looking anything up. Numbers end at 2147483647, as in Docker.
func ParseUser(s string) (user, group string, err error) {
	user, group, hasGroup := strings.Cut(s, ":")
	if strings.Contains(group, ":") || hasGroup && group == "" && user == "" {
		return "", "", fmt.Errorf("user %q: want USER[:GROUP]", s)
	}
	for _, part := range []string{user, group} {
		if err := checkID(part); err != nil {
			return "", "", fmt.Errorf("user %q: %w", s, err)
		}
	}
	return user, group, nil
}

func checkID(s string) error {
	if hasBlank(s) {
		return errors.New("blank in name")
	}
	if s == "" || strings.Trim(s, "-0123456789") != "" {
		return nil
	}
	if _, err := strconv.ParseUint(s, 10, 31); err != nil {
		return fmt.Errorf("uids and gids must be in range 0-2147483647, not %s", s)
	}
	return nil
}

// hasBlank tells whether s would break a line of passwd or hosts apart.
func hasBlank(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) })
}

// ParseDetachKeys reads --detach-keys: a list of keys with commas between, each a single character, or ctrl- and one of
// a-z @ [ \ ] ^ _, or DEL. It gives the bytes that a terminal sends for them; "" stands for ctrl-p,ctrl-q.
func ParseDetachKeys(s string) ([]byte, error) {
	if s == "" {
		return []byte{'p' & 0x1f, 'q' & 0x1f}, nil
	}
	var keys []byte
	for key := range strings.SplitSeq(s, ",") {
		name, control := strings.CutPrefix(key, "ctrl-")
		switch {
		case len(key) == 1:
			keys = append(keys, key[0])
		case control && len(name) == 1 && strings.Contains("abcdefghijklmnopqrstuvwxyz@[\\]^_", name):
			keys = append(keys, name[0]&0x1f)
		case key == "DEL":
			keys = append(keys, 0x7f)
		default:
			return nil, fmt.Errorf("detach-keys %q: unknown key %q: want a character, or ctrl- and one of a-z @ [ \\ ] ^ _", s, key)
		}
	}
	return keys, nil
}

// HostGateway is the address in --add-host that stands for the host as the container sees it.
const HostGateway = "host-gateway"

// HostEntry is a line of the container's /etc/hosts.
type HostEntry struct {
	// Name is the host's name; IP its address in canonical form, or HostGateway.
	Name, IP string
}

// ParseAddHost reads --add-host, NAME=IP or NAME:IP; the address may stand in brackets.
func ParseAddHost(s string) (HostEntry, error) {
	name, ip, ok := strings.Cut(s, "=")
	if !ok {
		name, ip, ok = strings.Cut(s, ":")
	}
	if !ok || name == "" || strings.Contains(name, ":") || hasBlank(name) {
		return HostEntry{}, fmt.Errorf("add-host %q: bad format for add-host: want NAME:IP", s)
	}
	if ip == HostGateway {
		return HostEntry{name, ip}, nil
	}
	if len(ip) > 1 && ip[0] == '[' && ip[len(ip)-1] == ']' {
		ip = ip[1 : len(ip)-1]
	}
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return HostEntry{}, fmt.Errorf("add-host %q: invalid IP address in add-host: %q", s, ip)
	}
	return HostEntry{name, addr.String()}, nil
}

// ParseIP reads a plain address, as --dns takes it, into canonical form.
func ParseIP(s string) (string, error) {
	addr, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil {
		return "", fmt.Errorf("dns %q: %q is not an ip address", s, s)
	}
	return addr.String(), nil
}

// RestartPolicy says when a container that ended is started again. The zero value is never.
type RestartPolicy struct {
	// Name is "", on-failure, always or unless-stopped; MaxRetries bounds on-failure, 0 means no bound.
	Name       string
	MaxRetries int
}

// ParseRestart reads --restart: no, always, unless-stopped, on-failure or on-failure:N.
func ParseRestart(s string) (RestartPolicy, error) {
	name, count, hasCount := strings.Cut(s, ":")
	switch name {
	case "", "no":
		name = ""
	case "always", "unless-stopped", "on-failure":
	default:
		return RestartPolicy{}, fmt.Errorf("restart %q: invalid restart policy: want no, on-failure[:N], always or unless-stopped", s)
	}
	if !hasCount {
		return RestartPolicy{Name: name}, nil
	}
	if name != "on-failure" {
		return RestartPolicy{}, fmt.Errorf("restart %q: invalid restart policy: maximum retry count can only be used with 'on-failure'", s)
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 {
		return RestartPolicy{}, fmt.Errorf("restart %q: invalid restart policy: maximum retry count must be a positive integer", s)
	}
	return RestartPolicy{Name: name, MaxRetries: n}, nil
}

// ParseTime reads --since and --until: RFC 3339 (a date alone too; the zone of now where it names none), seconds since
// 1970 with an optional fraction, or a Go duration back from now.
func ParseTime(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil && s != "0" {
		return now.Add(-d), nil
	}
	if t, ok := parseUnix(s); ok {
		return t, nil
	}
	layouts := []string{
		time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15Z07:00", "2006-01-02Z07:00",
		"2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02T15", time.DateOnly,
	}
	for _, layout := range layouts {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("time %q: want RFC 3339, seconds since 1970, or a duration such as 10m", s)
}

// parseUnix reads SECONDS[.FRACTION], the fraction cut at nanoseconds.
func parseUnix(s string) (time.Time, bool) {
	seconds, fraction, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || strings.Trim(fraction, "0123456789") != "" {
		return time.Time{}, false
	}
	nano, _ := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	return time.Unix(sec, nano), true
}

// validName is Docker's rule for the names of containers and volumes: [a-zA-Z0-9][a-zA-Z0-9_.-]+.
func validName(s string) bool {
	if len(s) < 2 || !isAlnum(s[0]) {
		return false
	}
	for i := 1; i < len(s); i++ {
		if !isAlnum(s[i]) && !strings.ContainsRune("_.-", rune(s[i])) {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// CheckName says what is wrong with the name of a container; a leading "/" is allowed, as in Docker.
func CheckName(name string) error {
	if validName(strings.TrimPrefix(name, "/")) {
		return nil
	}
	return fmt.Errorf("name %q: invalid container name, only %q are allowed, two characters or more", name, "[a-zA-Z0-9][a-zA-Z0-9_.-]")
}

// ParseExpose reads --expose, PORT[-PORT][/PROTOCOL], and returns it with the protocol spelled out, tcp by default.
func ParseExpose(s string) (string, error) {
	ports, protocol, hasProtocol := strings.Cut(s, "/")
	if !hasProtocol {
		protocol = "tcp"
	}
	switch protocol = strings.ToLower(protocol); protocol {
	case "tcp", "udp", "sctp":
	default:
		return "", fmt.Errorf("expose %q: invalid protocol %q: want tcp, udp or sctp", s, protocol)
	}
	first, last, isRange := strings.Cut(ports, "-")
	if !isRange {
		last = first
	}
	a, err1 := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || a == 0 || a > b {
		return "", fmt.Errorf("expose %q: invalid range format: want PORT or PORT-PORT", s)
	}
	return ports + "/" + protocol, nil
}
