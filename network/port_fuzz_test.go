package network

import "testing"

// FuzzParsePort: whatever is asked for, what comes out can be published.
func FuzzParsePort(f *testing.F) {
	for _, s := range []string{"80", "8080:80", "127.0.0.1:8080:80/udp", "[::1]:1-3:1-3", "::80", "1-2:3", "0:0", "65535-65536:1-2", "9-1:1-9", ":80/", "[:1:2", "1:2:3:4/tcp"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := ParsePort(s)
		if err != nil {
			return
		}
		if len(list) == 0 || len(list) > 1<<16 {
			t.Fatalf("%q: %d ports", s, len(list))
		}
		for i, p := range list {
			if p.Port == 0 || p.Protocol != "tcp" && p.Protocol != "udp" || p.HostLast != 0 && p.HostLast < p.HostPort {
				t.Fatalf("%q: %+v", s, p)
			}
			if i > 0 && (p.Port != list[0].Port+uint16(i) || p.HostPort != 0 && p.HostPort != list[0].HostPort+uint16(i)) {
				t.Fatalf("%q: %+v does not follow %+v", s, p, list[0])
			}
		}
	})
}
