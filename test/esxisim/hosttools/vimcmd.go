package main

import (
	"slices"
	"strings"
	"time"

	"github.com/esxid/esxid/test/esxisim/host"
)

// vimCmd talks to hostd, which needs a while after the boot. On 8.0 and later
// it hangs until then and does nothing.
func vimCmd(t *task) int {
	if !t.HostdReady() {
		if t.AtLeast(8) {
			ready := time.UnixMilli(t.Runtime.HostdMS).Add(time.Duration(t.Hardware.HostdReadyMS) * time.Millisecond)
			time.Sleep(min(time.Until(ready), 5*time.Second))
		}
		return t.fail("Failed to login: Connection refused")
	}
	if len(t.args) < 2 {
		t.printf("Commands available under /:\nhostsvc/          solo/             vimsvc/           vmsvc/\n")
		return 0
	}
	command, args := t.args[1], t.args[2:]
	switch command {
	case "hostsvc/runtimeinfo":
		t.printf("Runtime Info:\n\n(vim.host.RuntimeInfo) {\n   connectionState = \"connected\", \n   powerState = \"poweredOn\", \n   standbyMode = \"none\", \n   inMaintenanceMode = %v, \n   bootTime = \"%s\"\n}\n",
			t.State.Maintenance, time.UnixMilli(t.Runtime.BootedMS).UTC().Format("2006-01-02T15:04:05Z"))
	case "hostsvc/hostsummary":
		t.printf("Listsummary:\n(vim.host.Summary) {\n   host = 'vim.HostSystem:ha-host', \n   config = (vim.host.Summary.ConfigSummary) {\n      name = \"%s\", \n      port = 902\n   }\n}\n", t.State.FQDN())
	case "hostsvc/maintenance_mode_enter", "hostsvc/maintenance_mode_exit":
		t.State.Maintenance = strings.HasSuffix(command, "enter")
	case "hostsvc/net/refresh", "hostsvc/storage/refresh", "hostsvc/firmware/sync_config", "hostsvc/rescan_vmfs":
	case "hostsvc/enable_ssh", "hostsvc/disable_ssh", "hostsvc/start_ssh", "hostsvc/stop_ssh":
		return vimService(t, command, "SSH")
	case "hostsvc/enable_esx_shell", "hostsvc/disable_esx_shell", "hostsvc/start_esx_shell", "hostsvc/stop_esx_shell":
		return vimService(t, command, "ESXShell")
	case "hostsvc/datastore/listsummary", "hostsvc/datastore/list":
		for _, v := range t.State.Volumes {
			if v.IsVMFS() {
				t.printf("(vim.Datastore.Summary) {\n   name = \"%s\", \n   url = \"/vmfs/volumes/%s\", \n   capacity = %d, \n   freeSpace = %d, \n   accessible = %v, \n   type = \"VMFS\"\n}\n",
					v.Label, v.UUID, v.Size, v.Free(), !v.Unmounted)
			}
		}
	case "hostsvc/datastore/destroy":
		return vimDestroy(t, args)
	case "vmsvc/getallvms":
		t.printf("Vmid   Name   File   Guest OS   Version   Annotation\n")
	default:
		return t.fail("Invalid command '%s'.", strings.TrimPrefix(command, "/"))
	}
	return 0
}

func vimService(t *task, command, name string) int {
	s := t.State.Service(name)
	switch action := strings.TrimPrefix(command, "hostsvc/"); {
	case strings.HasPrefix(action, "enable"):
		s.OnBoot = true
	case strings.HasPrefix(action, "disable"):
		s.OnBoot = false
	default:
		s.Running = strings.HasPrefix(action, "start")
	}
	return 0
}

// vimDestroy removes a datastore.
func vimDestroy(t *task, args []string) int {
	if len(args) != 1 || t.State.Volume(args[0]) == nil {
		return t.fail("Datastore not found.")
	}
	v := t.State.Volume(args[0])
	if !v.IsVMFS() {
		return t.fail("The resource '%s' is in use.", v.Label)
	}
	i := slices.IndexFunc(t.State.Volumes, func(o host.Volume) bool { return o.UUID == v.UUID })
	t.State.Volumes = slices.Delete(t.State.Volumes, i, i+1)
	return 0
}
