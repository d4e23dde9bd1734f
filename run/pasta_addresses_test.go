package run

import "testing"

// What Linux 6.18 wrote of a network that pasta had made.
func TestAddresses(t *testing.T) {
	const trie = `Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
           |-- 127.0.0.1
              /32 host LOCAL
     +-- 198.51.100.0/24 2 0 2
        +-- 198.51.100.0/30 2 0 2
           |-- 198.51.100.0
              /24 link UNICAST
           |-- 198.51.100.1
              /32 host LOCAL
        |-- 198.51.100.255
           /32 link BROADCAST
`
	const routes = `Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
wire	00000000	026433C6	0003	0	0	0	00000000	0	0	0
wire	006433C6	00000000	0001	0	0	0	00FFFFFF	0	0	0
`
	const six = `fe80000000000000c83de2fffe7eef33 02 40 20 80     wire
20010db8000000000000000000000001 02 40 00 80     wire
00000000000000000000000000000001 01 80 10 80       lo
`
	if ip, gateway := addresses4(trie, routes); ip != "198.51.100.1/24" || gateway != "198.51.100.2" {
		t.Errorf("address %s, gateway %s", ip, gateway)
	}
	if ip := address6(six); ip != "2001:db8::1/64" {
		t.Errorf("address %s", ip)
	}
	for _, text := range []string{"", "|-- x\n/32 host LOCAL\n", "a b c d e f g h\n", "zz 0 0 00 0 x\n"} {
		if ip, gateway := addresses4(text, text); ip+gateway+address6(text) != "" {
			t.Errorf("%q: %s %s %s", text, ip, gateway, address6(text))
		}
	}
}
