package esxcli

import (
	"slices"
	"strconv"
	"strings"

	"github.com/esxid/esxid/test/esxisim/host"
)

// setting is an advanced option and its default, a number or a text.
type setting struct {
	path     string
	standard string
	text     bool
	min, max int
	since    []int
}

// advanced are those that a first boot may want to change, of several hundred.
var advanced = []setting{
	{path: "/Annotations/WelcomeMessage", text: true},
	{path: "/Config/HostAgent/plugins/solo/enableMob", standard: "0", max: 1},
	{path: "/Mem/ShareForceSalting", standard: "2", max: 2},
	{path: "/Net/FollowHardwareMac", standard: "0", max: 1},
	{path: "/Net/TcpipHeapMax", standard: "1024", max: 1536},
	{path: "/ScratchConfig/ConfiguredScratchLocation", standard: "/scratch", text: true},
	{path: "/ScratchConfig/CurrentScratchLocation", standard: "/scratch", text: true},
	{path: "/Security/AccountLockFailures", standard: "5", max: 100},
	{path: "/Security/PasswordQualityControl", standard: "retry=3 min=disabled,disabled,disabled,7,7", text: true},
	{path: "/Syslog/global/logDir", standard: "[] /scratch/log", text: true},
	{path: "/Syslog/global/logHost", text: true},
	{path: "/User/execInstalledOnly", standard: "1", max: 1, since: []int{8}},
	{path: "/UserVars/ESXiShellInteractiveTimeOut", standard: "0", max: 86400},
	{path: "/UserVars/ESXiShellTimeOut", standard: "0", max: 86400},
	{path: "/UserVars/HostClientCEIPOptIn", standard: "0", max: 2},
	{path: "/UserVars/SuppressHyperthreadWarning", standard: "0", max: 1},
	{path: "/UserVars/SuppressShellWarning", standard: "0", max: 1},
	{path: "/VMFS3/HardwareAcceleratedLocking", standard: "1", max: 1},
}

func settingsCommands() []command {
	base := "system settings "
	return []command{
		{path: base + "advanced list", text: "List the advanced options.", options: []option{
			may("o", "option", text, "Only this one."), may("d", "delta", flag, "Only those that were changed."), may("t", "tree", text, "Only those below."),
		}, run: advancedList},
		{path: base + "advanced set", text: "Change an advanced option.", options: []option{
			need("o", "option", "Its path."), may("i", "int-value", number, "A number."), may("s", "string-value", text, "A text."), may("d", "default", flag, "Its default."),
		}, run: advancedSet},
		{path: base + "kernel list", text: "List the VMkernel's options.", options: []option{may("o", "option", text, "Only this one."), may("d", "delta", flag, "Only those that were changed.")}, run: kernelList},
		{path: base + "kernel set", text: "Change an option of the VMkernel.", options: []option{need("s", "setting", "Its name."), need("v", "value", "Its value.")}, run: func(c *call) (output, error) {
			if _, ok := kernelOptions[c.str("setting")]; !ok {
				return output{}, refuse("Invalid Key: %s", c.str("setting"))
			}
			if c.State.Kernel == nil {
				c.State.Kernel = map[string]string{}
			}
			c.State.Kernel[c.str("setting")] = c.str("value")
			return output{}, nil
		}},
	}
}

func findSetting(c *call) (setting, error) {
	i := slices.IndexFunc(advanced, func(s setting) bool { return s.path == c.str("option") && c.AtLeast(s.since...) })
	if i < 0 {
		return setting{}, refuse("Unable to find option %s", strings.TrimPrefix(c.str("option"), "/"))
	}
	return advanced[i], nil
}

func advancedList(c *call) (output, error) {
	o := output{list: true}
	if c.has("option") {
		if _, err := findSetting(c); err != nil {
			return o, err
		}
	}
	for _, s := range advanced {
		value, changed := c.State.Settings[s.path]
		if !c.AtLeast(s.since...) || c.has("option") && s.path != c.str("option") || c.has("delta") && !changed || !strings.HasPrefix(s.path, c.str("tree")) {
			continue
		}
		if !changed {
			value = s.standard
		}
		number := func(text string) any {
			n, err := strconv.Atoi(text)
			if s.text || err != nil {
				return ""
			}
			return n
		}
		fields := []field{{"Path", s.path}, {"Type", "integer"}, {"Int Value", number(value)}, {"Default Int Value", number(s.standard)}, {"Min Value", s.min}, {"Max Value", s.max}, {"String Value", ""}, {"Default String Value", ""}, {"Valid Characters", ""}, {"Description", ""}}
		if s.text {
			fields[1].value, fields[6].value, fields[7].value = "string", value, s.standard
			fields[4].value, fields[5].value = "", ""
		}
		o.objects = append(o.objects, object{title: "", fields: fields})
	}
	return o, nil
}

func advancedSet(c *call) (output, error) {
	s, err := findSetting(c)
	if err != nil {
		return output{}, err
	}
	return output{}, setAdvanced(c, s)
}

func setAdvanced(c *call, s setting) error {
	var value string
	switch {
	case c.has("default"):
		value = s.standard
	case s.text && c.has("string-value"):
		value = c.str("string-value")
	case !s.text && c.has("int-value"):
		value = c.str("int-value")
		if n := c.num("int-value"); n < s.min || n > s.max {
			return refuse("Invalid value %d for %s: %d to %d are allowed", n, s.path, s.min, s.max)
		}
	default:
		return refuse("Option %s takes another type of value", s.path)
	}
	c.State.Settings[s.path] = value
	if value == s.standard {
		delete(c.State.Settings, s.path)
	}
	if s.path == "/Annotations/WelcomeMessage" {
		c.State.Welcome = value
	}
	return nil
}

// kernelOptions are some options of the VMkernel with their defaults.
var kernelOptions = map[string]string{
	"allowLegacyCPU": "FALSE", "autoPartition": "FALSE", "execInstalledOnly": "FALSE", "gdbPort": "default", "ignoreHeadless": "FALSE",
	"logPort": "default", "netNetqueueEnabled": "TRUE", "systemMediaSize": "default", "tty2Port": "default",
}

func kernelList(c *call) (output, error) {
	o := table("Name", "Type", "Configured", "Runtime", "Default", "Description")
	var names []string
	for name := range kernelOptions {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		standard := kernelOptions[name]
		configured, changed := c.State.Kernel[name]
		if !changed {
			configured = standard
		}
		kind := "String"
		if standard == "TRUE" || standard == "FALSE" {
			kind = "Bool"
		}
		if (!c.has("option") || c.str("option") == name) && (!c.has("delta") || changed) {
			o.add(name, kind, configured, standard, standard, "")
		}
	}
	if c.has("option") && o.rows == nil && !c.has("delta") {
		return o, refuse("Invalid Key: %s", c.str("option"))
	}
	return o, nil
}

// Advanced is the value of an advanced option, for the other tools that know
// them.
func Advanced(m *host.Machine, path string) (string, error) {
	c := &call{Machine: m, values: map[string][]string{"option": {path}}}
	s, err := findSetting(c)
	if err != nil {
		return "", err
	}
	if value, changed := m.State.Settings[path]; changed {
		return value, nil
	}
	return s.standard, nil
}

// SetAdvanced changes an advanced option.
func SetAdvanced(m *host.Machine, path, value string) error {
	c := &call{Machine: m, values: map[string][]string{"option": {path}}}
	s, err := findSetting(c)
	if err != nil {
		return err
	}
	name := "int-value"
	if s.text {
		name = "string-value"
	} else if _, err := strconv.Atoi(value); err != nil {
		return refuse("Invalid value %s for %s", value, path)
	}
	c.values[name] = []string{value}
	return setAdvanced(c, s)
}
