package weasel

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func (c *checker) network(command Command, o options) {
	c.plan.Network, c.plan.NetDevice = true, o.named["--device"]
	line := command.Line
	given := func(names ...string) string {
		for _, name := range names {
			if o.has(name) {
				return name
			}
		}
		return ""
	}
	switch o.named["--bootproto"] {
	case "", "dhcp":
		if name := given("--ip", "--netmask", "--gateway"); name != "" {
			c.fail(line, "network --bootproto=dhcp cannot have %s", name)
		}
		if name := given("--hostname", "--nameserver"); name != "" {
			c.warn(line, "network: %s is ignored with DHCP", name)
		}
	case "static":
		if !o.has("--ip") {
			c.fail(line, "network --bootproto=static needs --ip")
		}
		for _, name := range []string{"--netmask", "--gateway"} {
			if !o.has(name) {
				c.warn(line, "network: no %s, it is computed", name)
			}
		}
	default:
		c.fail(line, "network --bootproto=%s is neither dhcp nor static", o.named["--bootproto"])
	}
	for _, name := range []string{"--ip", "--netmask", "--gateway", "--nameserver"} {
		for _, address := range strings.Split(o.named[name], ",") {
			if _, err := netip.ParseAddr(address); err != nil && o.has(name) {
				c.fail(line, "network %s: %q is no address", name, address)
			}
		}
	}
	if id, err := strconv.Atoi(o.named["--vlanid"]); o.has("--vlanid") && (err != nil || id < 0 || id > 4095) {
		c.fail(line, "network: %q is no VLAN", o.named["--vlanid"])
	}
	if value := o.named["--addvmportgroup"]; o.has("--addvmportgroup") && !slices.Contains([]string{"0", "1", "true", "false"}, value) {
		c.fail(line, "network --addvmportgroup=%s is neither 0 nor 1", value)
	}
}

var keyboards = []string{
	"Belgian", "Brazilian", "Croatian", "Czechoslovakian", "Danish", "Estonian", "Finnish", "French", "German", "Greek", "Icelandic", "Italian",
	"Japanese", "Latin American", "Norwegian", "Polish", "Portuguese", "Russian", "Slovenian", "Spanish", "Swedish", "Swiss French",
	"Swiss German", "Turkish", "Ukrainian", "United Kingdom", "US Default", "US Dvorak",
}

func (c *checker) keyboard(command Command, o options) {
	if len(o.plain) != 1 || !slices.Contains(keyboards, o.plain[0]) {
		c.warn(command.Line, "unknown keyboard %q", strings.Join(o.plain, " "))
	}
}

var serialForm = regexp.MustCompile(`^[A-Z0-9]{5}(-[A-Z0-9]{5}){4}$`)

func (c *checker) serialnum(command Command, o options) {
	if !serialForm.MatchString(o.named["--esx"]) {
		c.fail(command.Line, "%s --esx= needs five groups of five characters", command.Name)
	}
}
