package main

import (
	"net/http/httptest"
	"os"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/esxid/esxid/test/maassim"
)

// maasKey is where a script keeps its MAAS.
type maasKey struct{}

func serveMAAS(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs("maas")
	ts.Check(os.MkdirAll(dir, 0o755))
	o := maassim.Options{Dir: dir, Generation: "3.6"}
	for _, name := range args {
		f, err := maassim.ParseFault(name)
		ts.Check(err)
		o.Faults = append(o.Faults, f)
	}
	sim, err := maassim.New(o)
	ts.Check(err)
	server := httptest.NewServer(sim)
	ts.Defer(server.Close)
	ts.Setenv("MAAS_URL", server.URL+"/MAAS")
	for name, key := range map[string]string{"MAAS_KEY": sim.AdminKey(), "MAAS_USER_KEY": sim.UserKey()} {
		path := ts.MkAbs(name)
		ts.Check(os.WriteFile(path, []byte(key+"\n"), 0o600))
		ts.Setenv(name, path)
	}
	running(ts).sim = sim
}

// running is the MAAS of a script.
func running(ts *testscript.TestScript) *maasState { return ts.Value(maasKey{}).(*maasState) }

type maasState struct{ sim *maassim.Sim }

func revokeKey(ts *testscript.TestScript, _ bool, _ []string) { running(ts).sim.Revoke("admin") }

func maasHas(ts *testscript.TestScript, neg bool, args []string) {
	sim := running(ts).sim
	ts.Check(sim.CheckImages())
	for _, image := range sim.Images() {
		if image.Name != args[0] {
			continue
		}
		if neg {
			ts.Fatalf("MAAS has %s", args[0])
		}
		same, err := sameFile(image.Path, ts.MkAbs(args[1]))
		ts.Check(err)
		if !same {
			ts.Fatalf("MAAS has something else as %s", args[0])
		}
		return
	}
	if !neg {
		ts.Fatalf("MAAS has no %s, only %+v", args[0], sim.Images())
	}
}
