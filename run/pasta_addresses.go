package run

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"strings"
)

// addressesOf are the addresses that a process has in its network, with the length of their prefix, and its gateway; "" for
// none. They are read where anybody may, see proc_pid_net(5): who is in the host's user namespace may not ask inside.
func addressesOf(pid int) (ip, ip6, gateway string) {
	read := func(name string) string {
		text, _ := os.ReadFile(procFile(pid, "net/"+name))
		return string(text)
	}
	ip, gateway = addresses4(read("fib_trie"), read("route"))
	return ip, address6(read("if_inet6")), gateway
}

// addresses4 finds the first address of IPv4 that is not the loopback's, whose prefix the routes tell, and the gateway.
func addresses4(trie, routes string) (ip, gateway string) {
	var own netip.Addr
	last := ""
	for line := range strings.Lines(trie) {
		f := strings.Fields(line)
		if len(f) == 2 && f[0] == "|--" {
			last = f[1]
		}
		a, err := netip.ParseAddr(last)
		if strings.Contains(line, "/32 host LOCAL") && err == nil && !a.IsLoopback() && !own.IsValid() {
			own = a
		}
	}
	if !own.IsValid() {
		return "", ""
	}
	bits := 32
	for line := range strings.Lines(routes) {
		f := strings.Fields(line) // Iface Destination Gateway Flags RefCnt Use Metric Mask ...
		if len(f) < 8 {
			continue
		}
		to, via, mask := kernelAddr(f[1]), kernelAddr(f[2]), kernelAddr(f[7])
		if !to.IsValid() || !via.IsValid() || !mask.IsValid() {
			continue // the head of the table
		}
		length := 0
		for _, b := range mask.AsSlice() {
			for ; b != 0; b <<= 1 {
				length++
			}
		}
		switch {
		case length == 0 && !via.IsUnspecified() && gateway == "":
			gateway = via.String()
		case length > 0 && via.IsUnspecified() && netip.PrefixFrom(to, length).Contains(own):
			bits = length
		}
	}
	return netip.PrefixFrom(own, bits).String(), gateway
}

// kernelAddr is an address as /proc/net/route writes it: a number in the order of the machine.
func kernelAddr(text string) netip.Addr {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != 4 {
		return netip.Addr{}
	}
	var a [4]byte
	binary.NativeEndian.PutUint32(a[:], binary.BigEndian.Uint32(b))
	return netip.AddrFrom4(a)
}

// address6 finds the first address of IPv6 that is good beyond the link.
func address6(table string) string {
	for line := range strings.Lines(table) {
		f := strings.Fields(line) // address, index, length of the prefix, scope, flags, name
		if len(f) < 6 || f[3] != "00" {
			continue
		}
		a, err := hex.DecodeString(f[0])
		bits, err2 := hex.DecodeString(f[2])
		if err == nil && err2 == nil && len(a) == 16 && len(bits) == 1 {
			return netip.PrefixFrom(netip.AddrFrom16([16]byte(a)), int(bits[0])).String()
		}
	}
	return ""
}
