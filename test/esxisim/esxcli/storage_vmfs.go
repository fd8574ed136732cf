package esxcli

func vmfsCommands() []command {
	which := []option{may("l", "volume-label", text, "Its label."), may("u", "volume-uuid", text, "Its UUID.")}
	base := "storage vmfs "
	return []command{
		{path: base + "extent list", text: "List the extents of VMFS volumes.", options: []option{may("i", "ignore-errors", flag, "Do not stop at an error.")}, run: extentList},
		{path: base + "snapshot list", text: "List volumes whose device is not the one they were made on.", options: which, run: func(*call) (output, error) {
			return output{list: true}, nil
		}},
		{path: base + "snapshot extent list", text: "List the extents of such volumes.", options: which, run: func(*call) (output, error) {
			return table("Device Name", ">Partition", ">Start", ">End", ">Is Boot Device"), nil
		}},
	}
}

func extentList(c *call) (output, error) {
	o := table("Volume Name", "VMFS UUID", ">Extent Number", "Device Name", ">Partition")
	for _, v := range c.State.Volumes {
		if v.Type == "vfat" || v.Unmounted {
			continue
		}
		for i, e := range v.Extents {
			o.add(v.Label, v.UUID, i, e.Disk, e.Partition)
		}
	}
	return o, nil
}
