package main

import (
	"strings"

	"github.com/esxid/esxid/test/esxisim/esxcli"
)

// vmware prints the version.
func vmware(t *task) int {
	if len(t.args) != 2 || strings.Trim(t.args[1], "-vl") != "" {
		return t.fail("vmware: wrong use: -v, -l or -vl")
	}
	if strings.Contains(t.args[1], "v") {
		t.printf("VMware ESXi %s build-%s\n", t.State.Version, t.State.Build)
	}
	if strings.Contains(t.args[1], "l") {
		update, _ := t.UpdateLevel()
		number := t.State.Version // two numbers from 7.0 on
		if t.AtLeast(7) {
			number = strings.Join(strings.Split(number, ".")[:2], ".")
		}
		if update == 0 {
			t.printf("VMware ESXi %s GA\n", number)
		} else {
			t.printf("VMware ESXi %s Update %d\n", number, update)
		}
	}
	return 0
}

// logger writes to the system log.
func logger(t *task) int {
	args, tag := t.args[1:], "root"
	for len(args) > 1 && strings.HasPrefix(args[0], "-") {
		switch args[0] {
		case "-t":
			tag, args = args[1], args[2:]
		case "-p":
			args = args[2:]
		default:
			args = args[1:]
		}
	}
	t.State.Log = append(t.State.Log, tag+": "+strings.Join(args, " "))
	return 0
}

// vsish reads and writes nodes of the VMkernel.
func vsish(t *task) int {
	args := t.args[1:]
	if len(args) < 3 || args[0] != "-e" && args[0] != "-pe" {
		return t.fail("vsish: wrong use: -e get NODE, -e set NODE VALUE or -e ls NODE")
	}
	command, node, values := args[1], strings.TrimSuffix(args[2], "/"), args[3:]
	option := "/" + strings.NewReplacer("/config/", "", "intOpts/", "", "strOpts/", "").Replace(node)
	switch {
	case command == "set" && node == "/system/log" && len(values) > 0:
		t.State.Log = append(t.State.Log, strings.Join(values, " "))
	case command == "set" && strings.HasPrefix(node, "/config/") && len(values) == 1:
		if err := esxcli.SetAdvanced(t.Machine, option, values[0]); err != nil {
			return t.fail("VSISHCmdSetInt():Set failed: %v", err)
		}
	case command == "get" && strings.HasPrefix(node, "/config/"):
		value, err := esxcli.Advanced(t.Machine, option)
		if err != nil {
			return t.fail("VSISHCmdGetInt():Get failed: %v", err)
		}
		t.printf("Vmkernel Config Option {\n   Current value:%s\n}\n", value)
	case command == "ls" && node == "/net/pNics":
		for i := range t.Hardware.NICs {
			t.printf("vmnic%d/\n", i)
		}
	default:
		return t.fail("VSISHPath_Form():Extended command line %s failed: Not found", node)
	}
	return 0
}

// generateCertificates makes a new certificate for the host's name.
func generateCertificates(t *task) int {
	t.State.Certificate.CommonName = t.State.FQDN()
	t.State.Certificate.Generation++
	if err := t.WriteCertificate(); err != nil {
		return t.fail("generate-certificates: %v", err)
	}
	return 0
}

// autoBackup saves /etc, which lives in memory, to the boot bank.
func autoBackup(t *task) int {
	if err := t.Save(); err != nil {
		return t.fail("Error saving the configuration: %v", err)
	}
	t.printf("Saving current state in /bootbank\nClock updated.\n")
	return 0
}

// stop is reboot, poweroff and halt.
func stop(t *task) int {
	t.State.Stopped = t.args[0]
	return 0
}
