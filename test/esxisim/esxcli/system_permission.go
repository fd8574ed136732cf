package esxcli

import (
	"fmt"
	"slices"
)

func permissionCommands() []command {
	id := need("i", "id", "The account's name.")
	group := may("g", "group", flag, "It is a group.")
	base := "system permission "
	return []command{
		{path: base + "list", text: "List who may do what.", run: func(c *call) (output, error) {
			o := table("Principal", ">Is Group", "Role", "Role Description")
			for _, u := range c.State.Users {
				if u.Role != "" {
					o.add(u.Name, false, u.Role, roles[u.Role])
				}
			}
			return o, nil
		}},
		{path: base + "set", text: "Give an account a role.", options: []option{id, need("r", "role", "Admin, ReadOnly or NoAccess."), group}, run: func(c *call) (output, error) {
			u, err := account(c)
			if err != nil {
				return output{}, err
			}
			if roles[c.str("role")] == "" {
				return output{}, refuse("Invalid role '%s'", c.str("role"))
			}
			u.Role = c.str("role")
			return output{}, nil
		}},
		{path: base + "unset", text: "Take an account's role away.", options: []option{id, group}, run: func(c *call) (output, error) {
			u, err := account(c)
			if err != nil {
				return output{}, err
			}
			u.Role = ""
			return output{}, nil
		}},
	}
}

var roles = map[string]string{"Admin": "Full access rights", "ReadOnly": "See details of objects, but not make changes", "NoAccess": "Used for restricting granted access"}

func powerCommands() []command {
	options := []option{need("r", "reason", "Why."), may("d", "delay", number, "In how many seconds."), may("f", "force", flag, "At once.")}
	stop := func(how string) func(*call) (output, error) {
		return func(c *call) (output, error) {
			if !c.State.Maintenance {
				return output{}, refuse("The system must be in Maintenance Mode before it can be shut down or rebooted.")
			}
			c.State.Stopped = how
			return output{}, nil
		}
	}
	return []command{
		{path: "system maintenanceMode get", text: "Show whether the host is in maintenance mode.", run: func(c *call) (output, error) {
			if c.State.Maintenance {
				return output{line: "Enabled"}, nil
			}
			return output{line: "Disabled"}, nil
		}},
		{path: "system maintenanceMode set", text: "Enter or leave maintenance mode.", options: []option{
			{name: "enable", short: "e", kind: truth, required: true, text: "Enter or leave."}, may("t", "timeout", number, "Seconds to wait."), may("m", "vsanmode", text, "What happens to vSAN's data."),
		}, run: func(c *call) (output, error) {
			if c.State.Maintenance == c.truth("enable") {
				return output{}, refuse("Maintenance mode is already %s.", map[bool]string{true: "enabled", false: "disabled"}[c.State.Maintenance])
			}
			c.State.Maintenance = c.truth("enable")
			return output{}, nil
		}},
		{path: "system shutdown reboot", text: "Start the host again.", options: options, run: stop("reboot")},
		{path: "system shutdown poweroff", text: "Switch the host off.", options: options, run: stop("poweroff")},
	}
}

func syslogCommands() []command {
	keys := map[string]string{"loghost": "Remote Host", "logdir": "Local Log Output"}
	return []command{
		{path: "system syslog config get", text: "Show where logs go.", run: func(c *call) (output, error) {
			dir := c.State.Syslog["logdir"]
			if dir == "" {
				dir = "/scratch/log"
			}
			host := c.State.Syslog["loghost"]
			if host == "" {
				host = "<none>"
			}
			return one(field{keys["logdir"], dir}, field{keys["loghost"], host}), nil
		}},
		{path: "system syslog config set", text: "Change where logs go.", options: []option{may("", "loghost", text, "Servers."), may("", "logdir", text, "A directory.")}, run: func(c *call) (output, error) {
			if c.State.Syslog == nil {
				c.State.Syslog = map[string]string{}
			}
			for key := range keys {
				if c.has(key) {
					c.State.Syslog[key] = c.str(key)
				}
			}
			return output{}, nil
		}},
		{path: "system syslog reload", text: "Use what was changed.", run: func(*call) (output, error) { return output{}, nil }},
		{path: "system syslog mark", text: "Write a line to all logs.", options: []option{may("s", "message", text, "The line.")}, run: func(c *call) (output, error) {
			c.State.Log = append(c.State.Log, fmt.Sprintf("mark: %s", c.str("message")))
			return output{}, nil
		}},
	}
}

// sshOptions are options of the SSH server that can be changed from 8.0 on.
var sshOptions = []string{"allowtcpforwarding", "allowstreamlocalforwarding", "banner", "ciphers", "clientalivecountmax", "clientaliveinterval", "gatewayports", "hostbasedauthentication", "ignorerhosts", "loglevel", "maxstartups", "permitrootlogin", "permittunnel", "port"}

func sshCommands() []command {
	return []command{
		{path: "system ssh server config list", text: "List the options of the SSH server.", since: []int{8}, run: func(c *call) (output, error) {
			o := table("Key", "Value")
			for _, key := range sshOptions {
				o.add(key, c.State.SSH[key])
			}
			return o, nil
		}},
		{path: "system ssh server config set", text: "Change an option of the SSH server.", since: []int{8}, options: []option{
			need("k", "keyword", "The option."), may("v", "value", text, "Its value."), may("r", "reset", flag, "Its default."),
		}, run: func(c *call) (output, error) {
			key := c.str("keyword")
			if !slices.Contains(sshOptions, key) {
				return output{}, refuse("Invalid keyword '%s'", key)
			}
			if c.State.SSH == nil {
				c.State.SSH = map[string]string{}
			}
			c.State.SSH[key] = c.str("value")
			if c.has("reset") {
				delete(c.State.SSH, key)
			}
			return output{}, nil
		}},
	}
}
