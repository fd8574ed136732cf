package esxcli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/esxid/esxid/test/esxisim/host"
)

// commands is the whole tree, flat.
func commands() []command {
	return slices.Concat(
		nicCommands(), vswitchCommands(), portgroupCommands(), policyCommands(), interfaceCommands(), ipv4Commands(), ipv6Commands(),
		routeCommands(), dnsCommands(), firewallCommands(),
		deviceCommands(), pathCommands(), filesystemCommands(), vmfsCommands(), nvmeCommands(),
		versionCommands(), hostnameCommands(), ntpCommands(), identityCommands(), settingsCommands(), accountCommands(),
		permissionCommands(), powerCommands(), syslogCommands(), sshCommands(), hardwareCommands(), softwareCommands(),
	)
}

// Main runs esxcli, or localcli, with the given arguments and returns the exit
// status. Refusals and wrong use go to out, like everything else.
func Main(m *host.Machine, args []string, stdin io.Reader, out io.Writer) int {
	json, args, err := globals(m, args)
	if err == nil {
		var text string
		if text, err = dispatch(m, args, stdin, json); err == nil {
			fmt.Fprint(out, text)
			return 0
		}
	}
	fmt.Fprintln(out, err)
	if usage := (*usageError)(nil); errors.As(err, &usage) && usage.of != nil {
		fmt.Fprint(out, usage.of.usage())
	}
	return 1
}

// globals reads the options before the namespace. The JSON formatter is for
// VMware's own use: it needs --debug.
func globals(m *host.Machine, args []string) (json bool, rest []string, err error) {
	debug, format := false, ""
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--debug":
			debug = true
		case strings.HasPrefix(arg, "--formatter="):
			format = strings.TrimPrefix(arg, "--formatter=")
		case arg == "--formatter" && len(args) > 0:
			format, args = args[0], args[1:]
		default:
			return false, nil, &usageError{"Invalid option " + arg, nil}
		}
	}
	switch {
	case format == "":
		return false, args, nil
	case format == "json" && debug && m.AtLeast(8):
		return true, args, nil
	}
	return false, nil, refuse("Unable to find requested formatter: %s", format)
}

func dispatch(m *host.Machine, args []string, stdin io.Reader, json bool) (string, error) {
	words := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "-") })
	if words < 0 {
		words = len(args)
	}
	path := strings.Join(args[:words], " ")
	cmd, err := find(m, path)
	if err != nil {
		return "", err
	}
	values, err := cmd.parse(args[words:])
	if err != nil {
		return "", err
	}
	o, err := cmd.run(&call{Machine: m, stdin: stdin, values: values})
	if err != nil {
		return "", err
	}
	if json {
		return o.json() + "\n", nil
	}
	return o.text(m.AtLeast(7)), nil
}

// find returns the command with that path, if this version has it.
func find(m *host.Machine, path string) (*command, error) {
	below := false
	all := commands()
	for i := range all {
		cmd := &all[i]
		if !m.AtLeast(cmd.since...) || cmd.until != nil && m.AtLeast(cmd.until...) {
			continue
		}
		if cmd.path == path {
			return cmd, nil
		}
		below = below || strings.HasPrefix(cmd.path, path+" ")
	}
	if below {
		return nil, refuse("Usage: esxcli %s {cmd} [cmd options]\n\nError: no command given", path)
	}
	return nil, &usageError{"Unknown command or namespace " + path, nil}
}
