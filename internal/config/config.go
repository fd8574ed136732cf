// Package config holds esxid's configuration: the file /etc/esxid/esxid.toml,
// its defaults and its validation. Every message about a wrong value names the
// file, the line and the key. config.example.toml describes each key.
package config

import "time"

// DefaultPath is where the service reads its configuration.
const DefaultPath = "/etc/esxid/esxid.toml"

// Config is the whole configuration.
type Config struct {
	StateDir     string `toml:"state_dir"`     // incoming, isos, rejected, builds, images
	RuntimeDir   string `toml:"runtime_dir"`   // locks and sockets, emptied at boot
	KickstartDir string `toml:"kickstart_dir"` // the operator's overrides

	Naming       Naming       `toml:"naming"`
	RootPassword RootPassword `toml:"root_password"`
	VM           VM           `toml:"vm"`
	Image        Image        `toml:"image"`
	Watch        Watch        `toml:"watch"`
	Retention    Retention    `toml:"retention"`
	Deploy       Deploy       `toml:"deploy"`
	Service      Service      `toml:"service"`
	Targets      []Target     `toml:"target"`

	source *source // nil: not read from a file
}

// RootPassword says which root password the images get. With neither key set
// every build gets a random one, written once to a file beside the image.
type RootPassword struct {
	Hash string `toml:"hash"` // crypt(5) SHA-512: $6$salt$hash, without rounds=
	File string `toml:"file"` // a file that holds the hash or the password
}

// VM configures the virtual machine the installer runs in.
type VM struct {
	Accel          string             `toml:"accel"`           // kvm, tcg or auto
	QEMU           string             `toml:"qemu"`            // program name or path
	IdleTimeout    time.Duration      `toml:"idle_timeout"`    // nothing new on serial or disk
	OverallTimeout time.Duration      `toml:"overall_timeout"` // the whole installation
	Profile        map[string]Profile `toml:"profile"`         // by version: "8.0.3", "8.0" or "8"
}

// Profile overrides values of the built-in hardware profile of a version; a
// zero value keeps the built-in one.
type Profile struct {
	Machine         string   `toml:"machine"`          // pc or q35
	NIC             string   `toml:"nic"`              // QEMU device name
	MAC             string   `toml:"mac"`              // stays in the image as vmk0's address
	DiskBus         string   `toml:"disk_bus"`         // ahci or ide
	KickstartMedium string   `toml:"kickstart_medium"` // cdrom or usb
	MemoryMiB       int      `toml:"memory_mib"`
	CPUs            int      `toml:"cpus"`
	CPUModel        string   `toml:"cpu_model"`      // QEMU -cpu
	KernelOptions   []string `toml:"kernel_options"` // replaces the profile's list
}

// Image configures how the payload gets into the installed disk and how the
// disk is packed.
type Image struct {
	Access string `toml:"access"` // auto, nbd or direct
}

// Watch configures the drop directories.
type Watch struct {
	Settle time.Duration `toml:"settle"` // how long a file must be unchanged
	Rescan time.Duration `toml:"rescan"` // safety rescan for events that got lost
}

// Retention bounds what is kept. What is being built, is to be published or is
// what a target has is never removed.
type Retention struct {
	ImagesPerName int `toml:"images_per_name"` // newest N per boot resource name
	FailedBuilds  int `toml:"failed_builds"`   // newest N, for their logs
	Rejected      int `toml:"rejected"`        // newest N
	MaxGiB        int `toml:"max_gib"`         // ISOs, rejected files, builds and images together; 0: no limit
}

// Deploy configures what a deployed host does with MAAS's configuration.
type Deploy struct {
	Unsupported   string `toml:"unsupported"`     // what ESXi cannot represent: error or warn
	VCenterCAFile string `toml:"vcenter_ca_file"` // PEM bundle that hosts trust vCenter by, beside ESXi's own
}

// Service configures how the service itself works.
type Service struct {
	Steps string `toml:"steps"` // where install and customize run: auto, units or process
}

// Target is a place finished images are published to.
type Target struct {
	Type string `toml:"type"` // maas or directory
	Name string `toml:"name"` // for messages; unique

	URL        string `toml:"url"`          // maas: http(s)://host[:port]/MAAS
	APIKeyFile string `toml:"api_key_file"` // maas: consumer:token:secret; empty: credential maas-api-key
	CAFile     string `toml:"ca_file"`      // maas: PEM bundle, added to the system's
	ServerName string `toml:"server_name"`  // maas: name expected in the certificate
	Insecure   bool   `toml:"insecure"`     // maas: do not verify the certificate
	KeepOld    bool   `toml:"keep_old"`     // maas: keep older sets until the new one is complete
	ChunkSize  int64  `toml:"chunk_size"`   // maas: bytes per request, at most 8 MiB

	Path string `toml:"path"` // directory: an existing directory

	source *source // nil: not read from a file
	index  int     // which [[target]] of it
}

// Target types.
const (
	TargetMAAS      = "maas"
	TargetDirectory = "directory"
)

// Bounds of Target.ChunkSize in bytes. MAAS's nginx refuses bodies over
// 10 MiB, and proxies before it may be stricter; 4 MiB is what MAAS's own CLI
// sends.
const (
	DefaultChunkSize = 4 << 20
	MaxChunkSize     = 8 << 20
	MinChunkSize     = 64 << 10
)

// Default returns the configuration of an empty file.
func Default() *Config {
	return &Config{
		StateDir:     "/var/lib/esxid",
		RuntimeDir:   "/run/esxid",
		KickstartDir: "/etc/esxid/kickstart.d",
		Naming:       Naming{Name: defaultName, Title: defaultTitle},
		VM: VM{
			Accel:          "kvm",
			QEMU:           "qemu-system-x86_64",
			IdleTimeout:    15 * time.Minute,
			OverallTimeout: 3 * time.Hour,
		},
		Image:     Image{Access: "auto"},
		Watch:     Watch{Settle: 3 * time.Second, Rescan: 10 * time.Minute},
		Retention: Retention{ImagesPerName: 3, FailedBuilds: 10, Rejected: 10},
		Deploy:    Deploy{Unsupported: "error"},
		Service:   Service{Steps: "auto"},
	}
}
