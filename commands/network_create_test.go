package commands

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hullrun/hull/network"
)

// TestSubnetWords: what is said of a subnet goes to the one that it lies in, whatever the order of the words.
func TestSubnetWords(t *testing.T) {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	words := subnetWords{
		subnets:  []string{"10.1.0.0/16", "fd00::/64"},
		gateways: []string{"fd00::fe", "10.1.0.254"},
		ranges:   []string{"fd00::50/126", "10.1.5.0/24"},
		aux:      []string{"router=10.1.5.1", "six=fd00::51", "printer=10.1.5.2"},
	}
	want := []network.Subnet{
		{Prefix: prefix("10.1.0.0/16"), Gateway: addr("10.1.0.254"), Range: prefix("10.1.5.0/24"),
			Reserved: map[string]netip.Addr{"router": addr("10.1.5.1"), "printer": addr("10.1.5.2")}},
		{Prefix: prefix("fd00::/64"), Gateway: addr("fd00::fe"), Range: prefix("fd00::50/126"), Reserved: map[string]netip.Addr{"six": addr("fd00::51")}},
	}
	got, err := words.parse()
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); err != nil || diff != "" {
		t.Error(err, diff)
	}
	for want, words := range map[string]subnetWords{
		`--subnet "10.1.0.0": invalid CIDR`:                     {subnets: []string{"10.1.0.0"}},
		`--gateway "10.2.0.1": no matching subnet`:              {subnets: []string{"10.1.0.0/16"}, gateways: []string{"10.2.0.1"}},
		`--gateway "x": invalid address`:                        {subnets: []string{"10.1.0.0/16"}, gateways: []string{"x"}},
		`--ip-range "10.2.0.0/24": no matching subnet`:          {subnets: []string{"10.1.0.0/16"}, ranges: []string{"10.2.0.0/24"}},
		`--ip-range "10.1.0.0": invalid address`:                {subnets: []string{"10.1.0.0/16"}, ranges: []string{"10.1.0.0"}},
		`--ip-range "10.1.5.0/24": no matching subnet: name it`: {ranges: []string{"10.1.5.0/24"}},
		`--aux-address "router=10.2.0.1": no matching subnet`:   {subnets: []string{"10.1.0.0/16"}, aux: []string{"router=10.2.0.1"}},
		`--aux-address "router": invalid address`:               {subnets: []string{"10.1.0.0/16"}, aux: []string{"router"}},
		`--aux-address "router=10.1.0.0/24": invalid address`:   {subnets: []string{"10.1.0.0/16"}, aux: []string{"router=10.1.0.0/24"}},
	} {
		if got, err := words.parse(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, %v, want %s", got, err, want)
		}
	}
}
