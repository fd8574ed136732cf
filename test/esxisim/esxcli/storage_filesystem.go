package esxcli

func filesystemCommands() []command {
	which := []option{
		may("l", "volume-label", text, "Its label."), may("u", "volume-uuid", text, "Its UUID."), may("p", "volume-path", text, "Its path."),
	}
	base := "storage filesystem "
	return []command{
		{path: base + "list", text: "List the volumes.", options: []option{may("i", "ignore-errors", flag, "Do not stop at an error.")}, run: filesystemList},
		{path: base + "mount", text: "Mount a volume.", options: append(which[:2:2], may("n", "no-persist", flag, "Until the next boot.")), run: mountCommand(true)},
		{path: base + "unmount", text: "Unmount a volume.", options: append(which, may("a", "all", flag, "All volumes."), may("n", "no-persist", flag, "Until the next boot.")), run: mountCommand(false)},
		{path: base + "rescan", text: "Look for new volumes.", options: []option{may("a", "all", flag, "On all adapters.")}, run: func(*call) (output, error) { return output{}, nil }},
		{path: base + "automount", text: "Mount what can be mounted.", run: func(c *call) (output, error) {
			for i := range c.State.Volumes {
				if v := &c.State.Volumes[i]; v.Unmounted {
					if err := c.Mount(v, true); err != nil {
						return output{}, err
					}
				}
			}
			return output{}, nil
		}},
	}
}

func filesystemList(c *call) (output, error) {
	o := table("Mount Point", "Volume Name", "UUID", ">Mounted", "Type", ">Size", ">Free")
	for _, rank := range []int{0, 1} { // what VMFS is comes first
		for _, v := range c.State.Volumes {
			point, kind, size, free := "/vmfs/volumes/"+v.UUID, v.Type, v.Size, v.Free()
			if v.Unmounted {
				point, kind, size, free = "", "VMFS-unknown version", 0, 0
			}
			if (v.Type == "vfat") == (rank == 1) {
				o.add(point, v.Label, v.UUID, !v.Unmounted, kind, size, free)
			}
		}
	}
	return o, nil
}

// mountCommand mounts or unmounts a volume.
func mountCommand(mounted bool) func(*call) (output, error) {
	return func(c *call) (output, error) {
		if c.has("all") {
			return output{}, unmountAll(c)
		}
		var name string
		for _, option := range []string{"volume-label", "volume-uuid", "volume-path"} {
			if c.has(option) {
				name = c.str(option)
			}
		}
		if name == "" {
			return output{}, &usageError{"Missing required parameter -l|--volume-label, -u|--volume-uuid", nil}
		}
		const dir = "/vmfs/volumes/"
		if len(name) > len(dir) && name[:len(dir)] == dir {
			name = name[len(dir):]
		}
		v := c.State.Volume(name)
		if v == nil {
			return output{}, refuse("No volume with label or UUID '%s' was found", name)
		}
		return output{}, c.Mount(v, mounted)
	}
}

func unmountAll(c *call) error {
	for i := range c.State.Volumes {
		if v := &c.State.Volumes[i]; !v.Unmounted && v.IsVMFS() {
			if err := c.Mount(v, false); err != nil {
				return err
			}
		}
	}
	return nil
}
