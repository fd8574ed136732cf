package esxcli

import (
	"fmt"
	"strings"

	"github.com/esxid/esxid/test/esxisim/host"
)

func deviceCommands() []command {
	only := may("d", "device", text, "Only this device.")
	base := "storage core device "
	return []command{
		{path: base + "list", text: "List the devices.", options: []option{
			only, may("o", "exclude-offline", flag, "Without devices that are offline."), may("p", "pe-only", flag, "Protocol endpoints only."),
		}, run: deviceList},
		{path: base + "capacity list", text: "List the sizes of the devices.", options: []option{only}, run: capacityList},
		{path: base + "partition list", text: "List the partitions.", options: []option{only}, run: partitionList},
		{path: base + "uid list", text: "List the identifiers of the devices.", options: []option{only}, run: uidList},
	}
}

// devices are those the command is for.
func devices(c *call) ([]host.Device, error) {
	if !c.has("device") {
		return c.Devices, nil
	}
	d := c.Device(c.str("device"))
	if d == nil {
		return nil, refuse("Unknown device %s", c.str("device"))
	}
	return []host.Device{*d}, nil
}

func deviceList(c *call) (output, error) {
	list, err := devices(c)
	o := output{list: true}
	for _, d := range list {
		o.objects = append(o.objects, object{title: d.Name, fields: deviceFields(c, d), json: []field{{"Device", d.Name}}})
	}
	return o, err
}

func deviceFields(c *call, d host.Device) []field {
	drive, raid, drives := "unknown", "unknown", "unknown"
	scsi, depth, worlds, thin := 6, 1024, 32, "yes"
	switch d.Bus {
	case "nvme":
		drive, raid, drives = "physical", "NA", "1"
		scsi, depth, thin = 0, 1023, "no"
	case "sata":
		scsi, depth, worlds = 5, 31, 31
		if d.Rotating {
			thin = "unknown"
		}
	case "usb":
		scsi, depth, worlds, thin = 2, 1, 1, "unknown"
	}
	fields := []field{
		{"Display Name", d.DisplayName()}, {"Has Settable Display Name", !strings.HasPrefix(d.Name, "mpx.")}, {"Size", d.Size >> 20}, {"Device Type", "Direct-Access "},
		{"Multipath Plugin", plugin(c, d)}, {"Devfs Path", d.Path()}, {"Vendor", d.SCSIVendor()}, {"Model", d.SCSIModel()},
		{"Revision", fmt.Sprintf("%-4s", d.Revision)}, {"SCSI Level", scsi}, {"Is Pseudo", false}, {"Status", "on"}, {"Is RDM Capable", false}, {"Is Local", true},
		{"Is Removable", d.Bus == "usb"}, {"Is SSD", !d.Rotating && d.Bus != "usb"}, {"Is VVOL PE", false}, {"Is Offline", false},
		{"Is Perennially Reserved", false}, {"Queue Full Sample Size", 0}, {"Queue Full Threshold", 0}, {"Thin Provisioning Status", thin},
		{"Attached Filters", ""}, {"VAAI Status", "unsupported"}, {"Other UIDs", []string{d.VML()}}, {"Is Shared Clusterwide", false},
		{"Is SAS", d.Bus == "sas"}, {"Is USB", d.Bus == "usb"}, {"Is Boot Device", d.Boot}, {"Device Max Queue Depth", depth},
		{"No of outstanding IOs with competing worlds", worlds}, {"Drive Type", drive}, {"RAID Level", raid},
		{"Number of Physical Drives", drives}, {"Protection Enabled", false}, {"PI Activated", false}, {"PI Type", 0},
		{"PI Protection Mask", "NO PROTECTION"}, {"Supported Guard Types", "NO GUARD SUPPORT"}, {"DIX Enabled", false},
		{"DIX Guard Type", "NO GUARD SUPPORT"}, {"Emulated DIX/DIF Enabled", false},
	}
	if !c.AtLeast(7) { // what is known of older lists ends here
		return fields[:34]
	}
	return fields
}

// plugin: local devices moved to another one with 7.0.
func plugin(c *call, d host.Device) string {
	if c.AtLeast(7) && d.Bus != "usb" {
		return "HPP"
	}
	return "NMP"
}

func capacityList(c *call) (output, error) {
	list, err := devices(c)
	o := table("Device", ">Physical Blocksize", ">Logical Blocksize", ">Logical Block Count", ">Size", "Format Type")
	for _, d := range list {
		physical, format := 512, "512n"
		if d.Bus == "nvme" || d.Rotating && d.Size > 2e12 {
			physical, format = 4096, "512e"
		}
		o.add(d.Name, physical, 512, d.Sectors(), fmt.Sprintf("%d MiB", d.Size>>20), format)
	}
	return o, err
}

func partitionList(c *call) (output, error) {
	list, err := devices(c)
	if err != nil {
		return output{}, err
	}
	o := table("Device", ">Partition", ">Start Sector", ">End Sector", ">Type", ">Size")
	for i := range list {
		t, err := c.Table(&list[i])
		if err != nil {
			return output{}, err
		}
		o.add(list[i].Name, 0, 0, list[i].Sectors(), "0", list[i].Size)
		for _, p := range t.Partitions {
			kind := map[string]string{"vmfs": "fb", "vmfsl": "f8", "vmkDiagnostic": "fc", "linuxNative": "6", "systemPartition": "0"}[p.TypeName()]
			o.add(list[i].Name, p.Number, p.First, p.Last+1, kind, p.Sectors()*512)
		}
	}
	return o, nil
}

func uidList(c *call) (output, error) {
	list, err := devices(c)
	o := table("Device UID", "Other UIDs")
	for _, d := range list {
		o.add(d.Name, d.VML())
	}
	return o, err
}
