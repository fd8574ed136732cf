package main

import (
	"bufio"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/esxid/esxid/test/esxisim/host"
)

// partedUtil works on partition tables. Its form is that of public output; its
// refusals follow parted's.
func partedUtil(t *task) int {
	commands := map[string]struct {
		arguments int // behind the disk; -1: any number
		run       func(*task, *host.Device, host.Table, []string) int
	}{
		"get": {0, getptbl}, "getptbl": {0, getptbl}, "getUsableSectors": {0, usable}, "fix": {0, fix}, "fixGpt": {0, fixGpt},
		"add": {2, addPartition}, "delete": {1, deletePartition}, "resize": {3, resizePartition}, "mklabel": {1, mklabel}, "setptbl": {-1, setptbl},
	}
	if len(t.args) > 1 && t.args[1] == "showGuids" {
		return showGuids(t)
	}
	if len(t.args) < 3 {
		return t.fail("Not enough arguments\nUsage: partedUtil {get|getptbl|setptbl|add|delete|resize|mklabel|fix|fixGpt|getUsableSectors|showGuids} disk ...")
	}
	command, ok := commands[t.args[1]]
	if !ok {
		return t.fail("Invalid command %s", t.args[1])
	}
	name, rest := t.args[2], t.args[3:]
	if command.arguments >= 0 && len(rest) != command.arguments {
		return t.fail("Wrong number of arguments for %s", t.args[1])
	}
	d := t.Device(name)
	if d == nil || !strings.Contains(name, "/") {
		return t.fail("Error: Could not stat device %s - No such file or directory.\nUnable to get device %s", name, name)
	}
	table, err := t.Table(d)
	if err != nil {
		return t.fail("Error: %v", err)
	}
	return command.run(t, d, table, rest)
}

// complaint is what parted says of a backup GPT that is not where it belongs.
func complaint(t *task, d *host.Device, table host.Table) {
	node := strings.Replace(d.Path(), "/vmfs/devices", "/dev", 1)
	if table.Damaged {
		t.printf("Error: The primary GPT table is corrupt, but the backup appears OK, so that will be used. Fix primary table ? diskPath (%s) diskSize (%d) AlternateLBA (1) LastUsableLBA (%d)\n",
			node, d.Sectors(), d.LastUsable())
	}
	if table.Label == "gpt" && table.Backup != d.Sectors()-1 {
		t.printf("Error: The backup GPT table is not at the end of the disk, as it should be. Fix, by moving the backup to the end (and removing the old backup)? diskPath (%s) diskSize (%d) AlternateLBA (%d) LastUsableLBA (%d)\n",
			node, d.Sectors(), table.Backup, table.Backup-33)
	}
}

// geometry is the disk in cylinders of 255 heads and 63 sectors.
func geometry(d *host.Device) string {
	return fmt.Sprintf("%d 255 63 %d", d.Sectors()/(255*63), d.Sectors())
}

// line is a partition as getptbl prints it, with its type's name or without.
func line(p host.Partition, name bool) string {
	kind := strings.ReplaceAll(string(p.Type), "-", "")
	if name {
		kind += " " + p.TypeName()
	}
	return fmt.Sprintf("%d %d %d %s %d", p.Number, p.First, p.Last, kind, p.Attributes)
}

func getptbl(t *task, d *host.Device, table host.Table, _ []string) int {
	complaint(t, d, table)
	t.printf("%s\n%s\n", table.Label, geometry(d))
	for _, p := range table.Partitions {
		t.printf("%s\n", line(p, true))
	}
	return 0
}

func usable(t *task, d *host.Device, table host.Table, _ []string) int {
	if table.Label != "gpt" {
		return t.fail("Error: Unable to get usable sectors: the label of the disk is %s", table.Label)
	}
	last := d.LastUsable()
	if table.Backup != d.Sectors()-1 {
		last = table.Backup - 33
	}
	t.printf("34 %d\n", last)
	return 0
}

// fix repairs what it can without asking.
func fix(t *task, d *host.Device, table host.Table, _ []string) int {
	if table.Label != "gpt" {
		return t.fail("Error: Can't fix a disk with the label %s", table.Label)
	}
	complaint(t, d, table)
	return t.write(d, table)
}

// fixGpt asks first; the answers come on the input.
func fixGpt(t *task, d *host.Device, table host.Table, _ []string) int {
	t.printf("\nFixGpt tries to fix any problems detected in GPT table.\nPlease ensure that you don't run this on any RDM (Raw Device Mapping) disk.\nAre you sure you want to continue (Y/N): ")
	answers := bufio.NewScanner(t.in)
	answers.Scan()
	if !strings.EqualFold(answers.Text(), "y") {
		return t.fail("\nNothing was changed.")
	}
	t.printf("\n")
	if table.Damaged || table.Label == "gpt" && table.Backup != d.Sectors()-1 {
		complaint(t, d, table)
		t.printf("Fix/Ignore/Cancel? ")
		if answers.Scan(); !strings.EqualFold(answers.Text(), "fix") {
			return t.fail("\nUnable to read partition table on device %s", d.Path())
		}
		t.printf("\n")
		if code := t.write(d, table); code != 0 {
			return code
		}
		table.Backup, table.Damaged = d.Sectors()-1, false
	}
	return getptbl(t, d, table, nil)
}

func (t *task) write(d *host.Device, table host.Table) int {
	if err := t.WriteTable(d, table); err != nil {
		return t.fail("Error: %v", err)
	}
	return 0
}

// problem is why a table cannot be like that; "" if it can.
func problem(d *host.Device, table host.Table) string {
	for i, p := range table.Partitions {
		if p.Number < 1 || p.Number > 128 {
			return fmt.Sprintf("Invalid partition number %d", p.Number)
		}
		if p.First < 34 || p.Last > d.LastUsable() || p.First > p.Last {
			return "Can't have a partition outside the disk!"
		}
		for _, o := range table.Partitions[:i] {
			if o.Number == p.Number {
				return fmt.Sprintf("Partition number %d is used twice", p.Number)
			}
			if o.First <= p.Last && p.First <= o.Last {
				return "Can't have overlapping partitions."
			}
		}
	}
	return ""
}

// parse reads "number first last type attributes".
func parse(text string) (host.Partition, error) {
	f := strings.Fields(text)
	if len(f) != 5 {
		return host.Partition{}, fmt.Errorf("\"%s\" is not \"number start end type attributes\"", text)
	}
	var n [4]int64
	for i, digits := range []string{f[0], f[1], f[2], f[4]} {
		var err error
		if n[i], err = strconv.ParseInt(digits, 10, 64); err != nil {
			return host.Partition{}, fmt.Errorf("\"%s\" is no number", digits)
		}
	}
	kind, ok := host.ParseGUID(f[3])
	if !ok || strings.Contains(f[3], "-") {
		return host.Partition{}, fmt.Errorf("\"%s\" is no partition type", f[3])
	}
	return host.Partition{Number: int(n[0]), First: n[1], Last: n[2], Type: kind, Attributes: int(n[3])}, nil
}

func addPartition(t *task, d *host.Device, table host.Table, args []string) int {
	if table.Label != args[0] {
		return t.fail("Error: The label of the disk is %s, not %s", table.Label, args[0])
	}
	p, err := parse(args[1])
	if err != nil {
		return t.fail("Error: %v", err)
	}
	table.Partitions = append(table.Partitions, p)
	if why := problem(d, table); why != "" {
		return t.fail("Error: %s\nUnable to add partition %d to device %s", why, p.Number, d.Path())
	}
	return t.write(d, table)
}

func deletePartition(t *task, d *host.Device, table host.Table, args []string) int {
	number, err := strconv.Atoi(args[0])
	if err != nil || table.Find(number) == nil {
		return t.fail("Error: Partition %s does not exist\nUnable to delete partition %s from device %s", args[0], args[0], d.Path())
	}
	if why := t.InUse(d, number); why != "" {
		return t.fail("Error: Read-only file system during write on %s\nUnable to delete partition %d from device %s: in use, %s", d.Path(), number, d.Path(), why)
	}
	table.Partitions = slices.DeleteFunc(table.Partitions, func(p host.Partition) bool { return p.Number == number })
	return t.write(d, table)
}

func resizePartition(t *task, d *host.Device, table host.Table, args []string) int {
	var n [3]int64
	for i, digits := range args {
		var err error
		if n[i], err = strconv.ParseInt(digits, 10, 64); err != nil {
			return t.fail("Error: \"%s\" is no number", digits)
		}
	}
	p := table.Find(int(n[0]))
	if p == nil {
		return t.fail("Error: Partition %d does not exist", n[0])
	}
	if why := t.InUse(d, p.Number); why != "" && (n[1] != p.First || n[2] < p.Last) {
		return t.fail("Error: in-use partition %d can not be shrunk or moved (%s)", p.Number, why)
	}
	p.First, p.Last = n[1], n[2]
	if why := problem(d, table); why != "" {
		return t.fail("Error: %s\nUnable to resize partition %d of device %s", why, n[0], d.Path())
	}
	return t.write(d, table)
}

// busy is the number of a partition that forbids writing a new table; 0 if none
// does.
func busy(t *task, d *host.Device, table host.Table) int {
	for _, p := range table.Partitions {
		if t.InUse(d, p.Number) != "" {
			return p.Number
		}
	}
	return 0
}

func mklabel(t *task, d *host.Device, table host.Table, args []string) int {
	if args[0] != "gpt" && args[0] != "msdos" {
		return t.fail("Error: Invalid label %s", args[0])
	}
	if n := busy(t, d, table); n != 0 {
		return t.fail("Error: Read-only file system during write on %s\nUnable to write a label: partition %d is in use", d.Path(), n)
	}
	return t.write(d, host.Table{Label: args[0]})
}

// setptbl replaces the table; partitions in use have to stay as they are.
func setptbl(t *task, d *host.Device, table host.Table, args []string) int {
	if len(args) == 0 {
		return t.fail("Wrong number of arguments for setptbl")
	}
	next := host.Table{Label: args[0]}
	for _, text := range args[1:] {
		p, err := parse(text)
		if err != nil {
			return t.fail("Error: %v", err)
		}
		next.Partitions = append(next.Partitions, p)
	}
	if why := problem(d, next); why != "" {
		return t.fail("Error: %s\nUnable to set the partition table of device %s", why, d.Path())
	}
	for _, p := range table.Partitions {
		if q := next.Find(p.Number); t.InUse(d, p.Number) != "" && (q == nil || *q != p) {
			return t.fail("Error: Read-only file system during write on %s\nPartition %d is in use", d.Path(), p.Number)
		}
	}
	t.printf("%s\n0 0 0 0\n", next.Label)
	for _, p := range next.Partitions {
		t.printf("%s\n", line(p, false))
	}
	return t.write(d, next)
}

func showGuids(t *task) int {
	t.printf(" Partition Type       GUID\n")
	for _, p := range host.PartitionTypes() {
		t.printf(" %-20s %s\n", p.TypeName(), strings.ReplaceAll(string(p.Type), "-", ""))
	}
	return 0
}
