package host

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/esxid/esxid/test/esxisim"
)

// Table is a partition table.
type Table struct {
	Label      string      `json:"label"`                // "gpt", "msdos", "unknown"
	Backup     int64       `json:"backup_lba,omitempty"` // where the primary header says that the backup GPT is
	Damaged    bool        `json:"damaged,omitempty"`    // the primary table is, the backup is not
	Partitions []Partition `json:"partitions,omitempty"` // in the order of their sectors
}

// Partition is an entry of a table. As text it is "8 67110912 937703054 vmfs",
// with the attributes behind it if there are any.
type Partition struct {
	Number      int
	First, Last int64 // sectors, inclusive
	Type        esxisim.GUID
	Attributes  int // as partedUtil shows them: 128 for a partition that BIOSes boot
}

// typeNames are partedUtil's for partition types.
var typeNames = []struct {
	kind esxisim.GUID
	name string
}{
	{esxisim.TypeESP, "systemPartition"},
	{esxisim.TypeFAT, "linuxNative"},
	{esxisim.TypeDump, "vmkDiagnostic"},
	{esxisim.TypeVMFS, "vmfs"},
	{esxisim.TypeOSData, "vmfsl"},
	{"381CFCCC-7288-11E0-92EE-000C2911D0B2", "vsan"},
	{"9198EFFC-31C0-11DB-8F78-000C2911D1B8", "vmwReserved"},
	{"E3C9E316-0B5C-4DB8-817D-F92DF00215AE", "microsoftRsvd"},
	{"0FC63DAF-8483-4772-8E79-3D69D8477DE4", "linuxNative"},
}

// TypeName is partedUtil's name of the type, "unknown" for one it does not know.
func (p Partition) TypeName() string {
	for _, t := range typeNames {
		if t.kind == p.Type {
			return t.name
		}
	}
	return "unknown"
}

// ParseGUID reads a type as partedUtil takes it: 32 hexadecimal digits, with
// dashes or without.
func ParseGUID(text string) (esxisim.GUID, bool) {
	digits := strings.ToUpper(strings.ReplaceAll(text, "-", ""))
	if len(digits) != 32 || strings.Trim(digits, "0123456789ABCDEF") != "" {
		return "", false
	}
	return esxisim.GUID(digits[:8] + "-" + digits[8:12] + "-" + digits[12:16] + "-" + digits[16:20] + "-" + digits[20:]), true
}

// MarshalText writes the partition on one line.
func (p Partition) MarshalText() ([]byte, error) {
	kind := p.TypeName()
	if kind == "unknown" || p.Type == typeNames[len(typeNames)-1].kind {
		kind = string(p.Type)
	}
	text := fmt.Appendf(nil, "%d %d %d %s", p.Number, p.First, p.Last, kind)
	if p.Attributes != 0 {
		text = fmt.Appendf(text, " %d", p.Attributes)
	}
	return text, nil
}

// UnmarshalText reads what MarshalText writes.
func (p *Partition) UnmarshalText(text []byte) error {
	fields := strings.Fields(string(text))
	if len(fields) == 4 {
		fields = append(fields, "0")
	}
	if len(fields) != 5 {
		return fmt.Errorf("%q is no partition", text)
	}
	var err error
	number := func(s string) int64 {
		n, e := strconv.ParseInt(s, 10, 64)
		if e != nil {
			err = e
		}
		return n
	}
	p.Number, p.First, p.Last, p.Attributes = int(number(fields[0])), number(fields[1]), number(fields[2]), int(number(fields[4]))
	if kind, ok := ParseGUID(fields[3]); ok {
		p.Type = kind
		return err
	}
	for _, t := range typeNames {
		if t.name == fields[3] {
			p.Type = t.kind
			return err
		}
	}
	return fmt.Errorf("%q is no partition type", fields[3])
}

// Find returns the partition with that number, nil if there is none.
func (t *Table) Find(number int) *Partition {
	i := slices.IndexFunc(t.Partitions, func(p Partition) bool { return p.Number == number })
	if i < 0 {
		return nil
	}
	return &t.Partitions[i]
}

// Sectors is the partition's length.
func (p Partition) Sectors() int64 { return p.Last - p.First + 1 }

// fromLayout are the partitions the installer makes.
func fromLayout(layout []esxisim.Partition) []Partition {
	var parts []Partition
	for _, p := range layout {
		q := Partition{Number: p.Number, First: p.First, Last: p.Last, Type: p.Type}
		if p.Attributes != 0 {
			q.Attributes = 128
		}
		parts = append(parts, q)
	}
	return parts
}

// Extent is a partition of a volume, with the sectors that the file system
// uses of it. As text it is "naa.5000c500a1b2c3d4:8 870592143".
type Extent struct {
	Disk      string
	Partition int
	Sectors   int64
}

// MarshalText writes the extent on one line.
func (e Extent) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, "%s:%d %d", e.Disk, e.Partition, e.Sectors), nil
}

// UnmarshalText reads what MarshalText writes.
func (e *Extent) UnmarshalText(text []byte) error {
	name, sectors, _ := strings.Cut(string(text), " ")
	colon := strings.LastIndexByte(name, ':')
	if colon < 0 {
		return fmt.Errorf("%q is no extent", text)
	}
	e.Disk = name[:colon]
	var err, err2 error
	e.Partition, err = strconv.Atoi(name[colon+1:])
	e.Sectors, err2 = strconv.ParseInt(sectors, 10, 64)
	if err == nil {
		err = err2
	}
	return err
}

// PartitionTypes is one partition of each type that has a name.
func PartitionTypes() []Partition {
	var all []Partition
	for _, t := range typeNames {
		all = append(all, Partition{Type: t.kind})
	}
	return all
}
