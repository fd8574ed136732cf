package curtin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/esxid/esxid/internal/guest"
	"github.com/esxid/esxid/internal/image"
	"github.com/esxid/esxid/internal/publish"
	"github.com/esxid/esxid/test/esxisim"
	"github.com/esxid/esxid/test/maassim"
)

const sampleDir = "../../internal/guest/testdata/curtin"

func sample(t *testing.T, name string) Config {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(sampleDir, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// layout is where the FAT partitions of a version lie, in bytes.
type layout struct{ esp, espSize, bank2 int64 }

var (
	layout6 = layout{64 * 512, 8128 * 512, 520224 * 512}
	layout7 = layout{64 * 512, 204800 * 512, 8597504 * 512}
)

// makeImage makes a disk with the payload in it as esxid ships it: without a
// backup GPT.
func makeImage(t *testing.T, version string, s guest.Settings) string {
	t.Helper()
	disk := makeDisk(t, version, s, esxisim.LayoutOptions{NoVMFS: true, MediaSize: "min"})
	// It is lost when the file grows again.
	if err := os.Truncate(disk, diskSize-33*512); err != nil {
		t.Fatal(err)
	}
	return disk
}

// diskSize is that of the disk an image is built on.
const diskSize = 32 << 30

// makeDisk makes the disk of an installation with the payload in it.
func makeDisk(t *testing.T, version string, s guest.Settings, l esxisim.LayoutOptions) string {
	t.Helper()
	dir := t.TempDir()
	disk := filepath.Join(dir, "image.raw")
	err := esxisim.WriteDisk(disk, esxisim.DiskOptions{
		Options:       esxisim.Options{Version: version, PayloadMiB: 16},
		LayoutOptions: l,
		Size:          diskSize,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range s.Files() {
		path := filepath.Join(dir, f.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tool(t, "mcopy", "-s", "-i", fmt.Sprintf("%s@@%d", disk, layout7.esp), filepath.Join(dir, "curtin"), "::")
	return disk
}

// tool runs a program and returns its output.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

// deploy writes the image to a disk of that size and lets the hook run there.
func deploy(t *testing.T, c Config, image string, size int64, runs int) (Result, string) {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk.raw")
	tool(t, "cp", "--sparse=always", image, disk)
	if err := os.Truncate(disk, size); err != nil {
		t.Fatal(err)
	}
	r, err := Deployment{Config: c, Disk: disk, Runs: runs}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r, disk
}

func TestSampleConfigs(t *testing.T) {
	image6 := makeImage(t, "6.7", guest.Settings{})
	image7 := makeImage(t, "8.0U3", guest.Settings{})
	tests := []struct {
		name    string
		image   string
		layout  layout
		size    int64
		runs    int // the second has to come out like the first
		refused string
	}{
		{"a-dhcp-single-nic", image7, layout7, 480103981056, 1, ""},
		{"b-bond-vlans-static", image7, layout7, 960197124096, 2, ""},
		{"c-vmfs6-extra-disks", image6, layout6, 240057409536, 2, ""},
		{"c2-vmfs7-bios-extra-disk", image7, layout7, 479559942144, 1, ""},
		{"d-flat-default", image7, layout7, 68719476736, 1, ""},
		{"d2-flat-bios", image6, layout6, 68719476736, 1, ""},
		{"e-bond-active-backup-ipv6-routes", image7, layout7, 800166076416, 1, ""},
		{"f-unsupported", image7, layout7, 240057409536, 1, "not supported on ESXi: mode balance-tlb of bond bond0 (only balance-rr, active-backup, 802.3ad); bridge br0"},
		{"g-nvme-two-disks-no-serial", image7, layout7, 1600321314816, 1, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := sample(t, tt.name)
			r, disk := deploy(t, c, tt.image, tt.size, tt.runs)
			if r.Partition != 1 {
				t.Errorf("hook found on partition %d, want 1", r.Partition)
			}
			checkNoCredentials(t, disk, tt.layout, r.Log)
			if tt.refused != "" {
				checkRefused(t, r, disk, tt.layout, tt.refused)
				return
			}
			if r.ExitCode != 0 {
				t.Fatalf("exit code %d:\n%s", r.ExitCode, r.Log)
			}
			checkTable(t, r.Log, disk, tt.size)
			checkDocument(t, c, disk, tt.layout)
			if n := strings.Count(r.Log, "removed root/curtin-install-cfg.yaml"); n != tt.runs {
				t.Errorf("curtin's copy of the configuration was removed %d times in %d runs:\n%s", n, tt.runs, r.Log)
			}
		})
	}
}

// The whole way of an image: packed, uploaded, found, downloaded and written, on
// a bus of another kind than the configuration names.
func TestDeployFromMAAS(t *testing.T) {
	t.Parallel()
	packed := filepath.Join(t.TempDir(), "image.dd.gz")
	// The layout with the fewest zeros to unpack.
	raw := makeDisk(t, "6.7", guest.Settings{}, esxisim.LayoutOptions{USB: true})
	p, err := image.Pack(t.Context(), raw, packed, image.PackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sim, err := maassim.New(maassim.Options{Dir: t.TempDir(), Generation: "3.6"})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(sim)
	defer server.Close()
	upload(t, server.URL+"/MAAS", sim.AdminKey(), publish.Image{Path: packed, Name: "esxi/6.7", Title: "ESXi 6.7",
		Architecture: "amd64/generic", SHA256: p.SHA256, Size: p.PackedSize})
	address, err := Locate(t.Context(), server.URL+"/MAAS", sim.AdminKey(), "esxi/6.7")
	if err != nil {
		t.Fatal(err)
	}
	const size = 68719476736
	disk := filepath.Join(t.TempDir(), "disk.raw")
	if err := Write(t.Context(), address, disk, size, io.Discard); err != nil {
		t.Fatal(err)
	}
	r, err := Deployment{Config: sample(t, "d-flat-default"), Disk: disk, Bus: "nvme"}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.ExitCode != 0 || r.Partition != 1 || !strings.Contains(r.Log, "in the last sector of /dev/nvme0n1") {
		t.Fatalf("exit code %d, hook on partition %d:\n%s", r.ExitCode, r.Partition, r.Log)
	}
	checkTable(t, r.Log, disk, size)
}

// curtin writes to the first disk by name where MAAS knows no serial number,
// although another one is to boot.
func TestImageOnWrongDisk(t *testing.T) {
	t.Parallel()
	c := sample(t, "g-nvme-two-disks-no-serial")
	var all map[string]any
	if err := json.Unmarshal(c.JSON, &all); err != nil {
		t.Fatal(err)
	}
	for _, e := range all["storage"].(map[string]any)["config"].([]any) {
		entry := e.(map[string]any)
		delete(entry, "grub_device")
		if entry["id"] == "nvme1n1" {
			entry["grub_device"] = true
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = ParseConfig(text); err != nil {
		t.Fatal(err)
	}
	r, disk := deploy(t, c, makeImage(t, "9.0", guest.Settings{}), 64<<30, 1)
	checkRefused(t, r, disk, layout7, "boot disk nvme1n1: curtin wrote the image to /dev/nvme0n1")
}

// A setting of the operator's makes a warning of what is refused otherwise; and
// a table of an earlier system is where the image's header points to.
func TestWarningsOnly(t *testing.T) {
	t.Parallel()
	image := makeImage(t, "7.0U3", guest.Settings{WarnUnsupported: true})
	leaveOldTable(t, image, diskSize)
	r, disk := deploy(t, sample(t, "f-unsupported"), image, 240057409536, 1)
	if r.ExitCode != 0 || !strings.Contains(r.Log, "warning: not supported: bridge br0") || !strings.Contains(r.Log, "table of an earlier system") {
		t.Errorf("exit code %d:\n%s", r.ExitCode, r.Log)
	}
	checkTable(t, r.Log, disk, 240057409536)
}

// leaveOldTable puts the backup GPT of another system into the image.
func leaveOldTable(t *testing.T, image string, size int64) {
	t.Helper()
	old := filepath.Join(t.TempDir(), "old")
	if err := create(old, size); err != nil {
		t.Fatal(err)
	}
	tool(t, "sgdisk", "-n", "1:2048:0", old)
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	start := fmt.Sprint(size/512 - 33)
	tool(t, "dd", "if="+old, "of="+image, "bs=512", "conv=notrunc", "status=none", "skip="+start, "seek="+start)
}

// MAAS's layout asks for no more than 10 GiB, a third of the disk the image was
// made on: all that counts is that the partitions fit.
func TestDiskSmallerThanTheBuildDisk(t *testing.T) {
	t.Parallel()
	const size = 10 << 30
	packed := filepath.Join(t.TempDir(), "image.dd.gz")
	raw := makeDisk(t, "6.5", guest.Settings{}, esxisim.LayoutOptions{NoVMFS: true, MediaSize: "min"})
	if _, err := image.Pack(t.Context(), raw, packed, image.PackOptions{Fit: true}); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(packed))))
	defer server.Close()
	disk := filepath.Join(t.TempDir(), "disk.raw")
	if err := Write(t.Context(), server.URL+"/image.dd.gz", disk, size, io.Discard); err != nil {
		t.Fatal(err)
	}
	r, err := Deployment{Config: sample(t, "d2-flat-bios"), Disk: disk}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.ExitCode != 0 || r.Partition != 1 {
		t.Fatalf("exit code %d, hook on partition %d:\n%s", r.ExitCode, r.Partition, r.Log)
	}
	checkTable(t, r.Log, disk, size)
}

// checkTable: sgdisk is content, and the backup header is in the last sector.
func checkTable(t *testing.T, log, disk string, size int64) {
	t.Helper()
	if !strings.Contains(log, "No problems found") || strings.Contains(log, "Problem:") {
		t.Errorf("sgdisk -v in the machine is not content:\n%s", log)
	}
	if out := tool(t, "sgdisk", "-v", disk); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk -v: %s", out)
	}
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	header := make([]byte, 8)
	if _, err := f.ReadAt(header, size-512); err != nil || string(header) != "EFI PART" {
		t.Errorf("the last sector holds %q, %v", header, err)
	}
}

// checkDocument: what the hook left on the second boot bank.
func checkDocument(t *testing.T, c Config, disk string, l layout) {
	t.Helper()
	bank := fmt.Sprintf("%s@@%d", disk, l.bank2)
	for _, f := range guest.Files() {
		if name, ok := strings.CutPrefix(f.Path, "curtin/firstboot/"); ok && tool(t, "mtype", "-i", bank, "::esxid/"+name) != string(f.Data) {
			t.Errorf("%s on the second bank is not what was meant", name)
		}
	}
	type noted struct {
		Name, Serial string
		MAAS         string `json:"maas_id"`
	}
	var document struct {
		BootDisk  string `json:"boot_disk"`
		ESXi      struct{ Version, Build string }
		Disks     []noted
		Reporting map[string]string
		Network   json.RawMessage
	}
	if err := json.Unmarshal([]byte(tool(t, "mtype", "-i", bank, "::esxid/config.json")), &document); err != nil {
		t.Fatal(err)
	}
	target, err := c.Target()
	if err != nil {
		t.Fatal(err)
	}
	if document.ESXi.Version == "" || document.Reporting["token_secret"] == "" || len(document.Network) < 100 {
		t.Errorf("document: %+v", document)
	}
	if len(document.Disks) != len(c.Disks) {
		t.Fatalf("%d disks noted, the machine has %d", len(document.Disks), len(c.Disks))
	}
	for _, want := range c.Disks {
		n := slices.IndexFunc(document.Disks, func(d noted) bool { return d.MAAS == want.Name })
		if n < 0 || want.Serial != "" && document.Disks[n].Serial != want.Serial {
			t.Errorf("disk %+v is not among those noted: %+v", want, document.Disks)
		} else if want.Name == target.Name && document.Disks[n].Name != document.BootDisk {
			t.Errorf("the image is on %s, the document says %s", document.Disks[n].Name, document.BootDisk)
		}
	}
	if out := tool(t, "fsck.vfat", "-n", espOf(t, disk, l)); strings.Contains(out, "Dirty bit") {
		t.Errorf("the EFI system partition was not unmounted cleanly: %s", out)
	}
}

// checkRefused: the reason comes last, nothing was written.
func checkRefused(t *testing.T, r Result, disk string, l layout, reason string) {
	t.Helper()
	before, _, ok := strings.Cut(r.Log, "curtin: install failed")
	lines := strings.Split(strings.TrimSpace(before), "\n")
	if last := lines[len(lines)-1]; r.ExitCode != 3 || !ok || !strings.Contains(last, reason) {
		t.Errorf("exit code %d, want 3 and last %q:\n%s", r.ExitCode, reason, r.Log)
	}
	if out, err := exec.Command("mdir", "-b", "-i", fmt.Sprintf("%s@@%d", disk, l.bank2), "::esxid").CombinedOutput(); err == nil {
		t.Errorf("the second bank was written to: %s", out)
	}
}

// checkNoCredentials looks for the key itself, in files and in what is left of
// removed ones, on the partition that curtin wrote to, and in the log.
func checkNoCredentials(t *testing.T, disk string, l layout, log string) {
	t.Helper()
	const secret = "ExampleTokenSecret00000000000003"
	if strings.Contains(log, secret) {
		t.Error("the log has the key in it")
	}
	data, err := os.ReadFile(espOf(t, disk, l))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte(secret)) {
		t.Error("the key is still on the EFI system partition")
	}
}

// espOf copies the EFI system partition to a file.
func espOf(t *testing.T, disk string, l layout) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "esp")
	tool(t, "dd", "if="+disk, "of="+out, "bs=32K", "status=none", fmt.Sprintf("skip=%d", l.esp>>15), fmt.Sprintf("count=%d", l.espSize>>15))
	return out
}
