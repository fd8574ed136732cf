package esxcli

func hardwareCommands() []command {
	return []command{
		{path: "hardware platform get", text: "Show the machine.", run: func(c *call) (output, error) {
			return output{objects: []object{{title: "Platform Information", fields: []field{
				{"UUID", c.PlatformUUID()}, {"Product Name", "Simulated Server"}, {"Vendor Name", "Example Corp."}, {"Serial Number", c.Hardware.Name},
				{"Enclosure Serial Number", c.Hardware.Name}, {"BIOS Asset Tag", ""}, {"IPMI Supported", false},
			}}}}, nil
		}},
		{path: "hardware memory get", text: "Show the memory.", run: func(*call) (output, error) {
			return one(field{"Physical Memory", "137438953472 Bytes"}, field{"Reliable Memory", "0 Bytes"}, field{"NUMA Node Count", 1}), nil
		}},
		{path: "hardware cpu global get", text: "Show the processors.", run: func(*call) (output, error) {
			return one(field{"CPU Packages", 1}, field{"CPU Cores", 8}, field{"CPU Threads", 16}, field{"Hyperthreading Active", true},
				field{"Hyperthreading Supported", true}, field{"Hyperthreading Enabled", true}, field{"HV Support", 3},
				field{"HV Replay Capable", true}, field{"HV Replay Disabled Reasons", ""}), nil
		}},
		{path: "hardware trustedboot get", text: "Show the TPM.", run: func(*call) (output, error) {
			return one(field{"Drtm Enabled", false}, field{"Tpm Present", false}), nil
		}},
	}
}

func softwareCommands() []command {
	return []command{
		{path: "software vib list", text: "List the installed packages.", run: func(c *call) (output, error) {
			o := table("Name", "Version", "Vendor", "Acceptance Level", "Install Date")
			o.add("esx-base", c.Release.BootBuild(), "VMware", "VMwareCertified", "2025-01-01")
			return o, nil
		}},
		{path: "software profile get", text: "Show the image profile.", run: func(c *call) (output, error) {
			return output{objects: []object{{title: c.Release.Profile, fields: []field{
				{"Name", c.Release.Profile}, {"Vendor", "VMware, Inc."}, {"Acceptance Level", "PartnerSupported"},
			}}}}, nil
		}},
		{path: "software acceptance get", text: "Show whose packages may be installed.", run: func(*call) (output, error) {
			return output{line: "PartnerSupported"}, nil
		}},
	}
}
