package esxcli

import "slices"

// The namespace came with 7.0; before it there is /etc/ntp.conf.
func ntpCommands() []command {
	return []command{
		{path: "system ntp get", text: "Show the time service.", since: []int{7}, run: func(c *call) (output, error) {
			pid := ""
			if c.State.NTP.Enabled {
				pid = "2099735"
			}
			return one(field{"Enabled", c.State.NTP.Enabled}, field{"Loglevel", "warning"}, field{"PID", pid},
				field{"Runtime Enabled", c.State.NTP.Enabled}, field{"Server", c.State.NTP.Servers}), nil
		}},
		{path: "system ntp set", text: "Configure the time service.", since: []int{7}, options: []option{
			may("e", "enabled", truth, "On or off."), may("s", "server", list, "A server; may be repeated."), may("r", "reset", flag, "As installed."),
			may("f", "file", text, "A file with the configuration."), may("l", "loglevel", text, "How much is logged."),
		}, run: ntpSet},
	}
}

func ntpSet(c *call) (output, error) {
	n := &c.State.NTP
	if c.has("reset") {
		n.Enabled, n.Servers = false, []string{}
	}
	if servers := c.strs("server"); c.has("server") {
		if len(servers) == 0 || slices.Contains(servers, "") {
			return output{}, refuse("Invalid NTP server ''")
		}
		n.Servers = servers
	}
	if c.has("enabled") {
		if c.truth("enabled") && len(n.Servers) == 0 {
			return output{}, refuse("Cannot enable NTP without a server")
		}
		n.Enabled = c.truth("enabled")
		if s := c.State.Service("ntpd"); s != nil {
			s.Running, s.OnBoot = n.Enabled, n.Enabled
		}
		if err := c.EnableRuleset("ntpClient", n.Enabled); err != nil {
			return output{}, err
		}
	}
	return output{}, nil
}
