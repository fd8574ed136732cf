package main

import (
	"bytes"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esxid/esxid/test/maassim"
)

const samples = "../../internal/guest/testdata/curtin/"

// What works is tested in test/curtin.
func TestDeployRefusals(t *testing.T) {
	sim, err := maassim.New(maassim.Options{Dir: t.TempDir(), Generation: "3.6"})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(sim)
	defer server.Close()
	dir := t.TempDir()
	key, empty := filepath.Join(dir, "key"), filepath.Join(dir, "empty.json")
	for path, text := range map[string]string{key: sim.AdminKey(), empty: "{}"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	disk := filepath.Join(dir, "disk.raw")
	good := []string{"--url=" + server.URL + "/MAAS", "--key-file=" + key, "--name=esxi/8.0", "--curtin=" + samples + "d-flat-default.json", "-o", disk}
	tests := []struct {
		args []string
		want string
	}{
		{nil, `required flag(s) "curtin", "key-file", "name", "output", "url" not set`},
		{good, "MAAS has no boot resource esxi/8.0"},
		{append(good, "--bus=ide"), "--bus ide: there are auto, sata and nvme"},
		{append(good, "--name=8.0"), `"8.0" is not a name like esxi/8.0`},
		{append(good, "--key-file="+empty), "the API key is not consumer:token:secret"},
		{append(good, "--curtin="+key), "cannot read the curtin configuration"},
		{append(good, "--curtin="+empty), "no disk to write the image to"},
		{append(good, "--url=http://127.0.0.1:1/MAAS"), "connection refused"},
	}
	for _, tt := range tests {
		cmd := newDeployCommand()
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		cmd.SetArgs(append([]string{}, tt.args...))
		cmd.SetOut(&bytes.Buffer{})
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %q", tt.args, err, tt.want)
		}
		if _, err := os.Stat(disk); err == nil {
			t.Errorf("%q: a disk was made", tt.args)
		}
	}
}
