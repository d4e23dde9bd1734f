package usernet

import "github.com/hullrun/hull/network/dns"

// forward asks the member's or else the host's resolvers one after the other, the way that the program asked, and gives the
// first answer that says more than that the resolver failed.
func (r *resolver) forward(m *member, query []byte, network string) ([]byte, error) {
	if m != nil && len(m.DNS) > 0 {
		return dns.Ask(m.DNS, query, network)
	}
	return dns.Ask(r.host.Servers(), query, network)
}
