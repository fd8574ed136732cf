package esxcli

import (
	"regexp"
	"strings"
)

func hostnameCommands() []command {
	return []command{
		{path: "system hostname get", text: "Show the host's name.", run: func(c *call) (output, error) {
			return one(field{"Domain Name", c.State.Domain}, field{"Fully Qualified Domain Name", c.State.FQDN()}, field{"Host Name", c.State.Hostname}), nil
		}},
		{path: "system hostname set", text: "Set the host's name.", options: []option{
			may("f", "fqdn", text, "Name with domain."), may("H", "host", text, "Name."), may("d", "domain", text, "Domain."),
		}, run: hostnameSet},
	}
}

var label = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

func hostnameSet(c *call) (output, error) {
	host, domain := c.State.Hostname, c.State.Domain
	switch {
	case c.has("fqdn") && (c.has("host") || c.has("domain")):
		return output{}, refuse("--fqdn goes with neither --host nor --domain")
	case c.has("fqdn"):
		host, domain, _ = strings.Cut(c.str("fqdn"), ".")
	case c.has("host") || c.has("domain"):
		if c.has("host") {
			host = c.str("host")
		}
		if c.has("domain") {
			domain = c.str("domain")
		}
	default:
		return output{}, &usageError{"Missing required parameter -f|--fqdn, -H|--host or -d|--domain", nil}
	}
	for _, part := range append(strings.Split(domain, "."), host) {
		if !label.MatchString(part) && (part != "" || domain != "") {
			return output{}, refuse("Invalid host name '%s.%s'", host, domain)
		}
	}
	c.State.Hostname, c.State.Domain = host, domain
	return output{}, nil
}
