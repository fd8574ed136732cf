package host

import (
	"net"
	"net/netip"
)

// Guard wraps the listener of a server that stands for one at the given address
// of the host's network: it drops connections as long as the host, as it is
// configured at that moment, could not reach that address. A metadata service
// on the loopback interface can so be as hard to reach as a real one.
func (h *Host) Guard(l net.Listener, at netip.AddrPort) net.Listener {
	return &guarded{Listener: l, host: h, at: at}
}

type guarded struct {
	net.Listener
	host *Host
	at   netip.AddrPort
}

// Accept drops connections that would not have come through.
func (g *guarded) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		m, err := g.host.Machine()
		if err == nil {
			err = m.Reach(g.at)
		}
		if err == nil {
			return c, nil
		}
		c.Close()
	}
}
