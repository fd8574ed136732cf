package esxcli

import (
	"net/netip"
	"slices"
	"strings"
)

func firewallCommands() []command {
	set := need("r", "ruleset-id", "The ruleset.")
	only := may("r", "ruleset-id", text, "Only this ruleset.")
	ip := need("i", "ip-address", "An address, or a network with its prefix length.")
	base := "network firewall "
	return []command{
		{path: base + "get", text: "Show whether the firewall is on.", run: func(c *call) (output, error) {
			action := "DROP"
			if c.State.Firewall.Pass {
				action = "PASS"
			}
			return one(field{"Default Action", action}, field{"Enabled", c.State.Firewall.Enabled}, field{"Loaded", true}), nil
		}},
		{path: base + "set", text: "Switch the firewall.", options: []option{
			may("e", "enabled", truth, "On or off."), may("d", "default-action", truth, "true: let everything pass."),
		}, run: func(c *call) (output, error) {
			if c.has("enabled") {
				c.State.Firewall.Enabled = c.truth("enabled")
			}
			if c.has("default-action") {
				c.State.Firewall.Pass = c.truth("default-action")
			}
			return output{}, nil
		}},
		{path: base + "refresh", text: "Read the rulesets again.", run: func(c *call) (output, error) {
			if err := c.RefreshFirewall(); err != nil {
				return output{}, refuse("%v", err)
			}
			return output{}, nil
		}},
		{path: base + "ruleset list", text: "List the rulesets.", options: []option{only}, run: rulesetList},
		{path: base + "ruleset set", text: "Change a ruleset.", options: []option{
			set, may("e", "enabled", truth, "On or off."), may("a", "allowed-all", truth, "For all addresses."),
		}, run: rulesetSet},
		{path: base + "ruleset rule list", text: "List the rules of the rulesets.", options: []option{only}, run: ruleList},
		{path: base + "ruleset allowedip list", text: "List the addresses that rulesets are for.", options: []option{only}, run: allowedList},
		{path: base + "ruleset allowedip add", text: "Add an address.", options: []option{set, ip}, run: allowedAdd},
		{path: base + "ruleset allowedip remove", text: "Remove an address.", options: []option{set, ip}, run: allowedRemove},
	}
}

// ruleset checks the name, if one was given.
func ruleset(c *call) (string, error) {
	id := c.str("ruleset-id")
	if id == "" {
		return "", nil
	}
	for _, r := range c.Rulesets() {
		if r.Name == id {
			return id, nil
		}
	}
	return "", refuse("Invalid ruleset id %s", id)
}

func rulesetList(c *call) (output, error) {
	id, err := ruleset(c)
	o := table("Name", ">Enabled")
	for _, r := range c.Rulesets() {
		if id == "" || r.Name == id {
			o.add(r.Name, r.Enabled)
		}
	}
	return o, err
}

func rulesetSet(c *call) (output, error) {
	id, err := ruleset(c)
	if err != nil {
		return output{}, err
	}
	if c.has("enabled") {
		if err := c.EnableRuleset(id, c.truth("enabled")); err != nil {
			return output{}, err
		}
	}
	f := &c.State.Firewall
	switch {
	case !c.has("allowed-all"):
	case c.truth("allowed-all"):
		delete(f.Allowed, id)
	default:
		if f.Allowed == nil {
			f.Allowed = map[string][]string{}
		}
		if f.Allowed[id] == nil {
			f.Allowed[id] = []string{}
		}
	}
	return output{}, nil
}

func ruleList(c *call) (output, error) {
	id, err := ruleset(c)
	o := table("Ruleset", "Direction", "Protocol", "Port Type", ">Port Begin", ">Port End")
	for _, r := range c.Rulesets() {
		for _, rule := range r.Rules {
			direction, protocol, kind := "Inbound", "TCP", "Dst"
			if rule.Outbound {
				direction = "Outbound"
			}
			if rule.UDP {
				protocol = "UDP"
			}
			if rule.Source {
				kind = "Src"
			}
			if id == "" || r.Name == id {
				o.add(r.Name, direction, protocol, kind, rule.First, rule.Last)
			}
		}
	}
	return o, err
}

func allowedList(c *call) (output, error) {
	id, err := ruleset(c)
	o := table("Ruleset", "Allowed IP Addresses")
	for _, r := range c.Rulesets() {
		addresses := "All"
		if list, limited := c.State.Firewall.Allowed[r.Name]; limited {
			addresses = strings.Join(list, ", ")
		}
		if id == "" || r.Name == id {
			o.add(r.Name, addresses)
		}
	}
	return o, err
}

func allowedAdd(c *call) (output, error) {
	id, err := ruleset(c)
	if err != nil {
		return output{}, err
	}
	list, limited := c.State.Firewall.Allowed[id]
	ip := c.str("ip-address")
	_, notAddr := netip.ParseAddr(ip)
	_, notNet := netip.ParsePrefix(ip)
	switch {
	case !limited:
		return output{}, refuse("Ruleset %s allows all addresses: set --allowed-all=false first", id)
	case notAddr != nil && notNet != nil:
		return output{}, refuse("Invalid IP address '%s'", ip)
	case slices.Contains(list, ip):
		return output{}, refuse("%s is already allowed by ruleset %s", ip, id)
	}
	c.State.Firewall.Allowed[id] = append(list, ip)
	return output{}, nil
}

func allowedRemove(c *call) (output, error) {
	id, err := ruleset(c)
	if err != nil {
		return output{}, err
	}
	list, ip := c.State.Firewall.Allowed[id], c.str("ip-address")
	if !slices.Contains(list, ip) {
		return output{}, refuse("%s is not allowed by ruleset %s", ip, id)
	}
	c.State.Firewall.Allowed[id] = slices.DeleteFunc(list, func(a string) bool { return a == ip })
	return output{}, nil
}
