package esxcli

import "fmt"

func versionCommands() []command {
	return []command{
		{path: "system version get", text: "Show the version.", run: func(c *call) (output, error) {
			update, patch := c.UpdateLevel()
			fields := []field{
				{"Product", "VMware ESXi"}, {"Version", c.State.Version}, {"Build", "Releasebuild-" + c.State.Build}, {"Update", fmt.Sprint(update)},
			}
			if c.AtLeast(9) {
				fields = append(fields, field{"Maintenance", "0"})
			}
			return one(append(fields, field{"Patch", fmt.Sprint(patch)})...), nil
		}},
		{path: "system boot device get", text: "Show what the system was started from.", run: func(c *call) (output, error) {
			uuid := ""
			if d := c.BootDevice(); d != nil {
				if v := c.VolumeOn(d.Name, 5); v != nil {
					uuid = v.UUID
				}
			}
			return one(field{"Boot Filesystem UUID", uuid}, field{"Boot NIC", ""}, field{"Stateless Boot NIC", ""}), nil
		}},
		{path: "system stats uptime get", text: "Show the time since the boot, in microseconds.", run: func(c *call) (output, error) {
			return output{line: fmt.Sprint(c.Uptime().Microseconds())}, nil
		}},
		{path: "system time get", text: "Show the time.", run: timeGet},
		{path: "system time set", text: "Set the time.", options: timeOptions, run: timeSet},
		{path: "hardware clock get", text: "Show the hardware clock.", run: timeGet},
		{path: "hardware clock set", text: "Set the hardware clock.", options: timeOptions, run: timeSet},
	}
}

var timeOptions = []option{
	may("y", "year", number, "Year."), may("M", "month", number, "Month."), may("d", "day", number, "Day."),
	may("H", "hour", number, "Hour."), may("m", "min", number, "Minute."), may("s", "sec", number, "Second."),
}

func timeGet(c *call) (output, error) {
	return output{line: c.Clock().UTC().Format("2006-01-02T15:04:05Z")}, nil
}

func timeSet(c *call) (output, error) {
	now := c.Clock().UTC()
	part := map[string]int{
		"year": now.Year(), "month": int(now.Month()), "day": now.Day(), "hour": now.Hour(), "min": now.Minute(), "sec": now.Second(),
	}
	for name := range part {
		if c.has(name) {
			part[name] = c.num(name)
		}
	}
	if part["month"] < 1 || part["month"] > 12 || part["day"] < 1 || part["day"] > 31 || part["hour"] > 23 || part["min"] > 59 || part["sec"] > 59 {
		return output{}, refuse("Invalid time")
	}
	c.SetClock(part["year"], part["month"], part["day"], part["hour"], part["min"], part["sec"])
	return output{}, nil
}
