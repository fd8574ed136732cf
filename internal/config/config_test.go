package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/esxid/esxid/internal/fault"
)

const example = "../../config.example.toml"

func TestExampleIsTheDefault(t *testing.T) {
	got, err := Load(example)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), got, cmpopts.IgnoreUnexported(Config{})); diff != "" {
		t.Errorf("config.example.toml differs from the defaults (-default +example):\n%s", diff)
	}
}

// TestExampleNamesEveryKey fails when a key is added to the types only. Tables
// that are commented out in the example count.
func TestExampleNamesEveryKey(t *testing.T) {
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	var walk func(typ reflect.Type)
	walk = func(typ reflect.Type) {
		for i := range typ.NumField() {
			field := typ.Field(i)
			if !field.IsExported() {
				continue
			}
			key := field.Tag.Get("toml")
			inner := field.Type
			for inner.Kind() == reflect.Slice || inner.Kind() == reflect.Map {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct {
				if !strings.Contains(string(text), key) {
					t.Errorf("config.example.toml lacks the table %s", key)
				}
				walk(inner)
				continue
			}
			if !strings.Contains(string(text), "\n"+key+" = ") && !strings.Contains(string(text), "\n# "+key+" = ") {
				t.Errorf("config.example.toml lacks the key %s", key)
			}
		}
	}
	walk(reflect.TypeFor[Config]())
}

// What is found out later is told with the key's place, too.
func TestPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "esxid.toml")
	target := func(name string) string {
		return "[[target]]\ntype = \"maas\"\nname = \"" + name + "\"\nurl = \"http://maas/MAAS\"\nca_file = \"/nowhere/ca.pem\"\n"
	}
	if err := os.WriteFile(path, []byte("[deploy]\nvcenter_ca_file = \"/nowhere/ca.pem\"\n"+target("a")+target("b")), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for got, want := range map[string]string{
		c.Place("deploy", "vcenter_ca_file"):         path + ":2: deploy.vcenter_ca_file",
		c.Targets[0].Place("ca_file"):                path + ":7: target 1: ca_file",
		c.Targets[1].Place("ca_file"):                path + ":12: target 2: ca_file",
		c.Targets[1].Place("api_key_file"):           path + ":8: target 2: api_key_file",
		Default().Place("deploy", "vcenter_ca_file"): "deploy.vcenter_ca_file",
		Target{}.Place("ca_file"):                    "ca_file",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

const goodTarget = "[[target]]\ntype = \"directory\"\nname = \"a\"\npath = \"/srv\"\n"

func TestRefused(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"unknown key", "state_dir = \"/x\"\n\n[vm]\naccell = \"kvm\"\n", ":4: unknown key vm.accell"},
		{"unknown table", "[vmm]\nx = 1\n", ":1: unknown key vmm"},
		{"unknown key in second target", goodTarget + "\n[[target]]\ntype = \"directory\"\nnam = \"b\"\n", "unknown key target.nam"},
		{"syntax", "state_dir = \n", ":1: "},
		{"wrong type", "[vm]\n\nidle_timeout = \"5m\"\noverall_timeout = 5.5\n", ":4: vm.overall_timeout: "},
		{"duration", "[vm]\nidle_timeout = \"soon\"\n", ":2: vm.idle_timeout: "},
		{"no text", "state_dir = 7\n", ":1: state_dir: want text in quotes"},
		{"no number", "[vm.profile.\"8\"]\ncpus = \"4\"\n", ":2: vm.profile.8.cpus: want a number without quotes"},
		{"no truth", goodTarget + "insecure = \"no\"\n", "insecure: want true or false without quotes"},
		{"no table", "vm = \"kvm\"\n", ":1: vm: want a table"},
		{"no list", "[vm.profile.\"8\"]\nkernel_options = \"a=b\"\n", "kernel_options: want a list"},
		{"relative path", "# c\nstate_dir = \"var\"\n", ":2: state_dir: want an absolute path"},
		{"accel", "[vm]\naccel = \"xen\"\n", ":2: vm.accel: want one of kvm, tcg, auto, not \"xen\""},
		{"overall below idle", "[vm]\nidle_timeout = \"20m\"\noverall_timeout = \"10m\"\n", ":3: vm.overall_timeout: want 20m"},
		{"profile version", "[vm.profile.eight]\ncpus = 2\n", ":1: vm.profile.eight: want a version"},
		{"profile value", "[vm.profile.\"8.0\"]\nnic = \"e1000e\"\nmachine = \"virt\"\n", ":3: vm.profile.\"8.0\".machine: want one of pc, q35"},
		{"profile option", "[vm.profile.\"8.0\"]\nkernel_options = [\"a b\"]\n", ":2: vm.profile.\"8.0\".kernel_options: \"a b\" is not"},
		{"profile memory", "[vm.profile.\"8\"]\nmemory_mib = 512\n", "memory_mib: want 4096"},
		{"profile device injection", "[vm.profile.\"8\"]\nnic = \"e1000,netdev=x\"\n", "nic: want the name of a QEMU"},
		{"multicast mac", "[vm.profile.\"8\"]\nmac = \"01:50:56:00:00:01\"\n", "mac: want a unicast"},
		{"name template", "[naming]\nname = \"esxi/{{.Majorr}}\"\n", ":2: naming.name: "},
		{"name with two slashes", "[naming]\nname = \"esxi/{{.Major}}/{{.Minor}}\"\n", ":2: naming.name: naming.name gives \"esxi/6/7\""},
		{"name of another system", "[naming]\nname = \"ubuntu/{{.Major}}\"\n", ":2: naming.name: "},
		{"empty title", "[naming]\n\ntitle = \"\"\n", ":3: naming.title: "},
		{"password hash", "[root_password]\nhash = \"$1$x$y\"\n", ":2: root_password.hash: want a SHA-512"},
		{"hash and file", "[root_password]\nhash = \"$6$a$" + strings.Repeat("x", 86) + "\"\nfile = \"/x\"\n", ":3: root_password.file: set either"},
		{"steps", "[service]\nsteps = \"unit\"\n", ":2: service.steps: want one of auto, units, process"},
		{"access", "[image]\naccess = \"loop\"\n", ":2: image.access: want one of"},
		{"retention", "[retention]\nimages_per_name = 0\n", ":2: retention.images_per_name: want 1"},
		{"rejected", "[retention]\nrejected = -1\n", ":2: retention.rejected: want 0 or more"},
		{"target type", "[[target]]\nname = \"a\"\n", ":1: target 1: type: want one of maas, directory"},
		{"target url", "[[target]]\ntype = \"maas\"\nname = \"a\"\nurl = \"maas\"\n", ":4: target 1: url: want an address"},
		{"key in url", "[[target]]\ntype = \"maas\"\nname = \"a\"\nurl = \"http://u:p@maas/MAAS\"\n", ":4: target 1: url: want an address without user"},
		{"chunk", "[[target]]\ntype = \"maas\"\nname = \"a\"\nurl = \"http://m/MAAS\"\nchunk_size = 20000000\n", ":5: target 1: chunk_size: want"},
		{"second target", goodTarget + "[[target]]\ntype = \"directory\"\nname = \"b\"\npath = \"srv\"\n", ":8: target 2: path: want the absolute"},
		{"same name twice", goodTarget + goodTarget, ":7: target 2: name: \"a\" is the name of another"},
		{"maas key in a directory target", goodTarget + "url = \"http://m/MAAS\"\n", ":2: target 1: type: a target of type"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse("esxid.toml", tt.text)
			if fault.ClassOf(err) != fault.Config {
				t.Fatalf("err = %v, want class Config", err)
			}
			if !strings.Contains(err.Error(), "esxid.toml"+tt.want) && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %q, want %q in it", err, tt.want)
			}
		})
	}
}

func TestErrorsDoNotShowTheHash(t *testing.T) {
	_, err := parse("esxid.toml", "[root_password]\nhash = \"$6$rounds=5$secretsalt$secrethash\"\n")
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("err = %v", err)
	}
}

func TestHashInOpenFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "esxid.toml")
	text := "[root_password]\nhash = \"$6$a$" + strings.Repeat("x", 86) + "\"\n"
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err != nil {
		t.Errorf("mode 0640 is refused: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "chmod 0640") {
		t.Errorf("err = %v, want advice to chmod", err)
	}
}

func TestChunkSizeDefault(t *testing.T) {
	c, err := parse("esxid.toml", "[[target]]\ntype = \"maas\"\nname = \"a\"\nurl = \"http://m:5240/MAAS\"\n")
	if err != nil {
		t.Fatal(err)
	}
	if c.Targets[0].ChunkSize != DefaultChunkSize {
		t.Errorf("chunk_size = %d, want %d", c.Targets[0].ChunkSize, DefaultChunkSize)
	}
}

func TestRenderNames(t *testing.T) {
	n := Default().Naming
	want := [][2]string{
		{"esxi/6.7", "VMware ESXi 6.7"},
		{"esxi/8.0-dell", "VMware ESXi 8.0 U3b (Dell)"},
	}
	for i, f := range sampleFields {
		name, title, err := n.Render(f)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]string{name, title}; got != want[i] {
			t.Errorf("Render(%s) = %q, want %q", f.Profile, got, want[i])
		}
	}
}
