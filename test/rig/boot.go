package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	sim "github.com/esxid/esxid/test/esxisim/host"
	"github.com/esxid/esxid/test/maassim"
	"github.com/spf13/pflag"
)

// firstBoot is what rig deploy --boot does once the image is on the disk.
type firstBoot struct {
	wanted                 bool
	hardwareFile, metadata string
	hardware               sim.Hardware
}

func (b *firstBoot) flags(f *pflag.FlagSet) {
	f.BoolVar(&b.wanted, "boot", false, "boot the deployed host, and print what became of it as JSON")
	f.StringVar(&b.hardwareFile, "hardware", "", "with --boot: the machine, in JSON")
	f.StringVar(&b.metadata, "metadata", "", "with --boot: a directory with local-hostname, public-keys, vendor-data and user-data, each if need be")
}

// load reads the hardware file, and returns the size of the boot disk.
func (b *firstBoot) load() (int64, error) {
	if !b.wanted {
		return 0, nil
	}
	if b.hardwareFile == "" {
		return 0, errors.New("--boot needs --hardware")
	}
	var err error
	if b.hardware, err = sim.ReadHardware(b.hardwareFile); err != nil {
		return 0, err
	}
	for _, d := range b.hardware.Disks {
		if d.Boot {
			return d.Size, nil
		}
	}
	return 0, fmt.Errorf("%s has no disk", b.hardwareFile)
}

// outcome is what is printed.
type outcome struct {
	Host sim.BootResult `json:"host"`
	MAAS seen           `json:"maas"`
}

// seen is what MAAS saw of the machine.
type seen struct {
	State  string          `json:"state"`
	Events []maassim.Event `json:"events"`
}

// run makes the machine known to MAAS, boots it from the deployed disk, and
// prints what became of both. It is no error if the deployment fails there.
func (b *firstBoot) run(ctx context.Context, base, key, disk string, config []byte, out io.Writer) error {
	machine, endpoint, err := b.machine(config)
	if err != nil {
		return err
	}
	server, err := url.Parse(base)
	if err != nil {
		return err
	}
	rig := api{server: server, key: key}
	if err := rig.call(ctx, http.MethodPost, "rig/machines", machine, nil); err != nil {
		return err
	}
	forward := sim.Forward{Address: endpoint, To: server.Host}
	r, err := sim.Boot{Hardware: b.hardware, Disk: disk, Forwards: []sim.Forward{forward}}.Run(ctx)
	if err != nil {
		return err
	}
	var after maassim.Machine
	if err := rig.call(ctx, http.MethodGet, "rig/machines/"+machine.SystemID, nil, &after); err != nil {
		return err
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(outcome{Host: r, MAAS: seen{State: after.State, Events: after.Events}})
}

// machine is the node of the curtin configuration, and where it expects MAAS.
func (b *firstBoot) machine(config []byte) (m maassim.Machine, endpoint string, err error) {
	var c struct {
		Reporting struct {
			MAAS struct {
				Endpoint    string
				ConsumerKey string `json:"consumer_key"`
				TokenKey    string `json:"token_key"`
				TokenSecret string `json:"token_secret"`
			}
		}
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return m, "", err
	}
	reporting := c.Reporting.MAAS
	u, err := url.Parse(reporting.Endpoint)
	if err != nil {
		return m, "", err
	}
	if net.ParseIP(u.Hostname()) == nil || u.Port() == "" {
		return m, "", fmt.Errorf("the endpoint %q of MAAS is no address with a port", reporting.Endpoint)
	}
	m = maassim.Machine{
		SystemID: path.Base(u.Path), Hostname: "host.maas",
		Key: maassim.Key{Consumer: reporting.ConsumerKey, Token: reporting.TokenKey, Secret: reporting.TokenSecret},
	}
	if b.metadata == "" {
		return m, u.Host, nil
	}
	for name, use := range map[string]func([]byte){
		"local-hostname": func(text []byte) { m.Hostname = strings.TrimSpace(string(text)) },
		"public-keys": func(text []byte) {
			m.PublicKeys = slices.Collect(strings.SplitSeq(strings.TrimSpace(string(text)), "\n"))
		},
		"vendor-data": func(text []byte) { m.VendorData = string(text) },
		"user-data":   func(text []byte) { m.UserData = text },
	} {
		text, err := os.ReadFile(filepath.Join(b.metadata, name))
		if err == nil {
			use(text)
		} else if !os.IsNotExist(err) {
			return m, "", err
		}
	}
	return m, u.Host, nil
}

// api is the part of the MAAS stand-in that no MAAS has.
type api struct {
	server *url.URL
	key    string // consumer:token:secret
}

// call sends and receives JSON, signed with OAuth 1.0 PLAINTEXT.
func (a api) call(ctx context.Context, method, where string, in, into any) error {
	part := strings.Split(strings.TrimSpace(a.key), ":")
	if len(part) != 3 {
		return errors.New("the API key is not consumer:token:secret")
	}
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	address := a.server.ResolveReference(&url.URL{Path: "/" + where}).String()
	r, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", fmt.Sprintf(`OAuth oauth_consumer_key="%s", oauth_token="%s", oauth_signature_method="PLAINTEXT", `+
		`oauth_signature="%%26%s", oauth_timestamp="%d", oauth_nonce="%s", oauth_version="1.0"`, part[0], part[1], part[2], time.Now().Unix(), rand.Text()))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, address, resp.Status, text)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}
