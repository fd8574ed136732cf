package main

import (
	"bufio"
	"path"
	"strings"
)

// vmkfstools makes, spans, grows and describes VMFS volumes.
func vmkfstools(t *task) int {
	args := t.args[1:]
	option := map[string]string{}
	var rest []string
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch name, value, attached := strings.Cut(arg, "="); {
		case attached && strings.HasPrefix(name, "--"):
			option[long[name]] = value
		case long[arg] == "-h" || long[arg] == "-V" || long[arg] == "-F":
			option[long[arg]] = ""
		case long[arg] != "" && len(args) > 0:
			option[long[arg]], args = args[0], args[1:]
		case arg == "-Ph" && len(args) > 0:
			option["-P"], args = args[0], args[1:]
		case strings.HasPrefix(arg, "-"):
			return t.fail("vmkfstools: unrecognized option '%s'", arg)
		default:
			rest = append(rest, arg)
		}
	}
	has := func(name string) bool { _, ok := option[name]; return ok }
	switch {
	case has("-C") && len(rest) == 1:
		return createFS(t, option["-C"], option["-S"], rest[0])
	case has("-Z") && len(rest) == 1:
		return span(t, option["-Z"], rest[0])
	case has("--growfs") && len(rest) == 1:
		if option["--growfs"] != rest[0] {
			return t.fail("Error: the device to grow is given twice, and both have to be the same")
		}
		if _, err := t.Grow(rest[0]); err != nil {
			return t.fail("Error: %v", err)
		}
		return 0
	case has("-P"):
		return queryFS(t, option["-P"])
	case has("-V"):
		return 0
	}
	return t.fail("vmkfstools: wrong use: -C FS -S LABEL PARTITION, -Z NEW HEAD, --growfs PARTITION PARTITION, -P PATH, -V")
}

// long maps every form of an option to one.
var long = map[string]string{
	"-C": "-C", "--createfs": "-C", "-S": "-S", "--setfsname": "-S", "-Z": "-Z", "--spanfs": "-Z", "-G": "--growfs", "--growfs": "--growfs",
	"-P": "-P", "--queryfs": "-P", "-h": "-h", "--humanreadable": "-h", "-V": "-V", "--refresh": "-V", "-F": "-F", "-b": "-b", "--blocksize": "-b",
}

func createFS(t *task, kind, label, node string) int {
	short := strings.ToLower(kind)
	name := map[string]string{"vmfs5": "VMFS-5", "vmfs6": "VMFS-6"}[short]
	if name == "" {
		return t.fail("Error: Unknown file system type %s", kind)
	}
	file := path.Base(node)
	full := "/dev/disks/" + file
	t.printf("create fs deviceName:'%s', fsShortName:'%s', fsName:'%s'\n", full, short, label)
	t.printf("deviceFullPath:%s deviceFile:%s\n", full, file)
	if len(label) > 42 || strings.ContainsAny(label, "/\\%") {
		return t.fail("Error: Invalid volume name '%s'", label)
	}
	v, err := t.Format(name, label, node)
	if err != nil {
		return t.fail("Error: %v", err)
	}
	t.printf("ATS on device %s: not supported\n.\nChecking if remote hosts are using this device as a valid file system. This may take a few seconds...\n", full)
	t.printf("Creating %s file system on \"%s\" with blockSize 1048576 and volume label \"%s\".\n", short, file, v.Label)
	t.printf("Successfully created new volume: %s\n", v.UUID)
	return 0
}

// span asks before it destroys what is on the new extent.
func span(t *task, node, head string) int {
	t.printf("VMware ESX Question:\nAll data on %s will be lost. Continue and format?\n0) _Yes\n1) _No\n\nSelect a number from 0-1: ", node)
	answer := bufio.NewScanner(t.in)
	answer.Scan()
	if strings.TrimSpace(answer.Text()) != "0" {
		return t.fail("\nError: not spanned: the answer was '%s'", answer.Text())
	}
	t.printf("\n")
	if _, err := t.Span(node, head); err != nil {
		return t.fail("Error: %v", err)
	}
	return 0
}

func queryFS(t *task, where string) int {
	name := strings.TrimPrefix(strings.TrimPrefix(where, t.Root), "/vmfs/volumes/")
	name, _, _ = strings.Cut(name, "/")
	v := t.State.Volume(name)
	if v == nil || v.Unmounted {
		return t.fail("Error: Could not get file system attributes of %s: No such file or directory", where)
	}
	t.printf("%s file system spanning %d partitions.\n", v.Type+".81", len(v.Extents))
	t.printf("File system label (if any): %s\nMode: public\n", v.Label)
	t.printf("Capacity %d (%d file blocks * 1048576), %d (%d blocks) avail, max supported file size 70368744177664\n", v.Size, v.Size>>20, v.Free(), v.Free()>>20)
	t.printf("Disk Block Size: 512/512/0\nUUID: %s\nPartitions spanned (on \"lvm\"):\n", v.UUID)
	for _, e := range v.Extents {
		t.printf("\t%s:%d\n", e.Disk, e.Partition)
	}
	t.printf("Is Native Snapshot Capable: NO\n")
	return 0
}
