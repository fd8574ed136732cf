package esxcli

import (
	"net/netip"
	"slices"
)

func dnsCommands() []command {
	stack := may("N", "netstack", text, "The netstack.")
	all := may("a", "all", flag, "All of them.")
	base := "network ip dns "
	return []command{
		{path: base + "server list", text: "List the DNS servers.", options: []option{stack}, run: func(c *call) (output, error) {
			return one(field{"DNSServers", c.NameServers()}), nil
		}},
		{path: base + "server add", text: "Add a DNS server.", options: []option{need("s", "server", "Its address."), stack}, run: func(c *call) (output, error) {
			a, err := netip.ParseAddr(c.str("server"))
			if err != nil {
				return output{}, refuse("Invalid DNS server '%s': not an IP address", c.str("server"))
			}
			return output{}, addName(&c.State.DNS.Servers, "DNS server", a.String())
		}},
		{path: base + "server remove", text: "Remove a DNS server.", options: []option{may("s", "server", text, "Its address."), all, stack}, run: func(c *call) (output, error) {
			return output{}, removeName(c, &c.State.DNS.Servers, "server")
		}},
		{path: base + "search list", text: "List the search domains.", options: []option{stack}, run: func(c *call) (output, error) {
			return one(field{"DNSSearch Domains", c.State.DNS.Search}), nil
		}},
		{path: base + "search add", text: "Add a search domain.", options: []option{need("d", "domain", "The domain."), stack}, run: func(c *call) (output, error) {
			return output{}, addName(&c.State.DNS.Search, "search domain", c.str("domain"))
		}},
		{path: base + "search remove", text: "Remove a search domain.", options: []option{may("d", "domain", text, "The domain."), all, stack}, run: func(c *call) (output, error) {
			return output{}, removeName(c, &c.State.DNS.Search, "domain")
		}},
	}
}

func addName(list *[]string, what, name string) error {
	if slices.Contains(*list, name) {
		return refuse("The %s %s already exists", what, name)
	}
	*list = append(*list, name)
	return nil
}

func removeName(c *call, list *[]string, option string) error {
	if c.has("all") {
		*list = []string{}
		return nil
	}
	name := c.str(option)
	if !slices.Contains(*list, name) {
		return refuse("The %s '%s' does not exist", option, name)
	}
	*list = slices.DeleteFunc(*list, func(n string) bool { return n == name })
	return nil
}
