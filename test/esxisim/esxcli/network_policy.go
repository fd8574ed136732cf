package esxcli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/esxid/esxid/test/esxisim/host"
)

func policyCommands() []command {
	settings := []option{
		may("a", "active-uplinks", text, "NICs in use, with commas."),
		may("s", "standby-uplinks", text, "NICs for when those fail, with commas."),
		may("l", "load-balancing", text, "explicit, iphash, mac or portid."),
		may("f", "failure-detection", text, "beacon or link."),
		may("b", "failback", truth, "Go back to a NIC that works again."),
		may("n", "notify-switches", truth, "Tell physical switches of a change."),
	}
	name := need("v", "vswitch-name", "The name of the vSwitch.")
	group := need("p", "portgroup-name", "The name of the port group.")
	inherit := may("u", "use-vswitch", flag, "Use the vSwitch's policy again.")
	return []command{
		{path: "network vswitch standard policy failover get", text: "Show how a vSwitch uses its uplinks.", options: []option{name}, run: func(c *call) (output, error) {
			w, err := vswitch(c)
			if err != nil {
				return output{}, err
			}
			return teamingOutput(w, &w.Teaming, nil), nil
		}},
		{path: "network vswitch standard policy failover set", text: "Change how a vSwitch uses its uplinks.", options: append([]option{name}, settings...), run: func(c *call) (output, error) {
			w, err := vswitch(c)
			if err != nil {
				return output{}, err
			}
			return output{}, setTeaming(c, w, &w.Teaming)
		}},
		{path: "network vswitch standard portgroup policy failover get", text: "Show how a port group uses the uplinks.", options: []option{group}, run: func(c *call) (output, error) {
			w, g, err := portgroup(c)
			if err != nil {
				return output{}, err
			}
			if g.Teaming == nil {
				return teamingOutput(w, &w.Teaming, g), nil
			}
			return teamingOutput(w, g.Teaming, g), nil
		}},
		{path: "network vswitch standard portgroup policy failover set", text: "Change how a port group uses the uplinks.", options: append([]option{group, inherit}, settings...), run: portgroupTeaming},
	}
}

func teamingOutput(w *host.Switch, t *host.Teaming, g *host.Portgroup) output {
	var unused []string
	for _, n := range w.Uplinks {
		if !slices.Contains(t.Active, n) && !slices.Contains(t.Standby, n) {
			unused = append(unused, n)
		}
	}
	balancing := map[string]string{"portid": "srcport", "mac": "srcmac"}[t.LoadBalancing]
	if balancing == "" {
		balancing = t.LoadBalancing
	}
	detection := t.Detection
	if detection == "" {
		detection = "link"
	}
	fields := []field{
		{"Load Balancing", balancing}, {"Network Failure Detection", detection}, {"Notify Switches", !t.NoNotify}, {"Failback", !t.NoFailback},
		{"Active Adapters", t.Active}, {"Standby Adapters", t.Standby}, {"Unused Adapters", unused},
	}
	if g != nil {
		own := g.Teaming != nil
		fields = append(fields, field{"Override Vswitch Load Balancing", own}, field{"Override Vswitch Network Failure Detection", own},
			field{"Override Vswitch Notify Switches", own}, field{"Override Vswitch Failback", own}, field{"Override Vswitch Uplinks", own})
	}
	return one(fields...)
}

func portgroupTeaming(c *call) (output, error) {
	w, g, err := portgroup(c)
	if err != nil {
		return output{}, err
	}
	if c.has("use-vswitch") {
		g.Teaming = nil
		return output{}, nil
	}
	if g.Teaming == nil {
		t := w.Teaming
		t.Active, t.Standby = slices.Clone(t.Active), slices.Clone(t.Standby)
		g.Teaming = &t
	}
	return output{}, setTeaming(c, w, g.Teaming)
}

// setTeaming changes what was given. NICs named in neither list are not used.
func setTeaming(c *call, w *host.Switch, t *host.Teaming) error {
	lists := map[string]*[]string{"active-uplinks": &t.Active, "standby-uplinks": &t.Standby}
	for option, to := range lists {
		if !c.has(option) {
			continue
		}
		names := c.strs(option)
		for _, name := range names {
			if !slices.Contains(w.Uplinks, name) {
				return refuse("Invalid uplink %s: not an uplink of vswitch %s", name, w.Name)
			}
		}
		*to = names
		for other, list := range lists {
			if other != option && !c.has(other) {
				*list = slices.DeleteFunc(*list, func(n string) bool { return slices.Contains(names, n) })
			}
		}
	}
	for _, name := range t.Standby {
		if slices.Contains(t.Active, name) {
			return refuse("uplink %s cannot be both active and standby", name)
		}
	}
	for _, choice := range []struct {
		option string
		values string
		to     *string
	}{{"load-balancing", "explicit iphash mac portid", &t.LoadBalancing}, {"failure-detection", "beacon link", &t.Detection}} {
		if !c.has(choice.option) {
			continue
		}
		value := c.str(choice.option)
		if !slices.Contains(strings.Fields(choice.values), value) {
			return &usageError{fmt.Sprintf("While processing '--%s'. Invalid value '%s'", choice.option, value), nil}
		}
		*choice.to = value
	}
	if c.has("failback") {
		t.NoFailback = !c.truth("failback")
	}
	if c.has("notify-switches") {
		t.NoNotify = !c.truth("notify-switches")
	}
	return nil
}
