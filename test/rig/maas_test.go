package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	conf "github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/publish/maas"
)

// startMAAS runs rig maas and returns what it printed, by key.
func startMAAS(t *testing.T, args ...string) map[string]string {
	t.Helper()
	r, w := io.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	cmd := newMAASCommand()
	cmd.SetArgs(append([]string{"--listen", "127.0.0.1:0"}, args...))
	cmd.SetOut(w)
	ended := make(chan error, 1)
	go func() {
		err := cmd.ExecuteContext(ctx)
		w.CloseWithError(err)
		ended <- err
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("rig maas: %v", err)
		}
	})
	want := 2
	if strings.Contains(strings.Join(args, " "), "--tls") {
		want = 4
	}
	said := map[string]string{}
	for lines := bufio.NewScanner(r); len(said) < want && lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), "=")
		said[key] = value
	}
	if len(said) != want {
		t.Fatalf("printed %v", said)
	}
	return said
}

func TestMAAS(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "maas")
	for _, args := range [][]string{{"--dir", dir, "--generation", "3.8"}, {"--dir", dir, "--generation", "3.8", "--tls"}} {
		t.Run(strings.Join(args[3:], " "), func(t *testing.T) {
			said := startMAAS(t, args...)
			if info, err := os.Stat(said["key_file"]); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("key file: %v, %v", info, err)
			}
			check := func(url string) error {
				c, err := maas.New(conf.Target{Name: "rig", URL: url, APIKeyFile: said["key_file"], CAFile: said["ca_file"]})
				if err != nil {
					t.Fatal(err)
				}
				return c.Check(t.Context())
			}
			if err := check(said["url"]); err != nil {
				t.Error(err)
			}
			if plain := said["plain_url"]; plain != "" {
				if err := check(plain); err == nil || !strings.Contains(err.Error(), said["url"]) {
					t.Errorf("plain port: %v, want the address with TLS in it", err)
				}
			}
		})
	}
}

func TestMAASRefusesWhatThereIsNot(t *testing.T) {
	for _, args := range [][]string{{"--generation", "1.0"}, {"--fault", "x"}, {"--fault", "disk-full@x"}} {
		cmd := newMAASCommand()
		cmd.SetArgs(append(args, "--dir", t.TempDir(), "--listen", "127.0.0.1:0"))
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		if err := cmd.Execute(); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
}
