package commands

import (
	"testing"

	"github.com/hullrun/hull/run"
)

// TestFoldPorts: neighbours are one word where both sides have the same numbers, as docker ps has it.
func TestFoldPorts(t *testing.T) {
	on := func(port string, ips ...string) (list []run.DocPort) {
		for _, ip := range ips {
			list = append(list, run.DocPort{HostIP: ip, HostPort: port})
		}
		return list
	}
	all := []string{"0.0.0.0", "::"}
	for want, ports := range map[string]map[string][]run.DocPort{
		"":                              {},
		"80-82/tcp, 53-54/udp, 443/tcp": {"443/tcp": nil, "80/tcp": nil, "82/tcp": nil, "81/tcp": nil, "53/udp": nil, "54/udp": nil},
		"0.0.0.0:8000-8003->8000-8003/tcp, [::]:8000-8003->8000-8003/tcp": {
			"8000/tcp": on("8000", all...), "8001/tcp": on("8001", all...), "8002/tcp": on("8002", all...), "8003/tcp": on("8003", all...),
		},
		"0.0.0.0:8000-8001->8000-8001/tcp, 0.0.0.0:8003->8003/tcp, 0.0.0.0:8002->8002/udp": {
			"8000/tcp": on("8000", "0.0.0.0"), "8001/tcp": on("8001", "0.0.0.0"), "8002/udp": on("8002", "0.0.0.0"), "8003/tcp": on("8003", "0.0.0.0"),
		},
		"9000/tcp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 0.0.0.0:8081->81/tcp": {
			"80/tcp": on("8080", all...), "81/tcp": on("8081", "0.0.0.0"), "9000/tcp": nil,
		},
	} {
		if got := foldPorts(ports); got != want {
			t.Errorf("%v: %q, want %q", ports, got, want)
		}
	}
}
