package bus

import (
	"context"
	"slices"
	"strings"
	"testing"
)

func TestPolkit(t *testing.T) {
	f, _, _ := started(t)
	p := startPolkit(t)
	path := BuildPath(runningID)
	for _, c := range []struct {
		name   string
		answer polkitResult
		flags  []string
		want   string // error, or ok
		text   string
	}{
		{"allowed", polkitResult{Authorized: true}, nil, "ok", ""},
		{"denied", polkitResult{}, nil, errorPrefix + "NotPermitted", "org.esxid1.cancel"},
		{"needs a password", polkitResult{Challenge: true}, nil, errorPrefix + "NotPermitted", "without a password"},
		{"allowed after a password", polkitResult{Authorized: true}, []string{"interactive"}, "ok", ""},
		{"wrong password", polkitResult{Challenge: true}, []string{"interactive"}, errorPrefix + "NotPermitted", "not permitted (polkit action"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.says(c.answer)
			name, text := asNobody(t, path, BuildInterface+".Cancel", c.flags...)
			if name != c.want || !strings.Contains(text, c.text) {
				t.Errorf("got %s %s", name, text)
			}
			actions, flags, subject := p.question()
			if wantFlags := uint32(len(c.flags)); !slices.Equal(actions, []string{"org.esxid1.cancel"}) || flags != wantFlags {
				t.Errorf("polkit was asked for %v with the flags %d", actions, flags)
			}
			if sender, _ := subject.Details["name"].Value().(string); subject.Kind != "system-bus-name" || !strings.HasPrefix(sender, ":") {
				t.Errorf("polkit was asked about %v", subject)
			}
			did := f.asked()
			if slices.Contains(did, "cancel "+runningID+" for nobody") != (c.want == "ok") {
				t.Errorf("done: %q", did)
			}
		})
	}
}

// Without polkit root may still do everything, and others read.
func TestWithoutPolkit(t *testing.T) {
	f, _, conn := started(t)
	path := BuildPath(runningID)
	name, text := asNobody(t, path, BuildInterface+".Cancel")
	if name != errorPrefix+"NotPermitted" || !strings.Contains(text, "apt install polkitd") {
		t.Errorf("got %s %s", name, text)
	}
	if name, text := asNobody(t, Root, ObjectManager+".GetManagedObjects", "nothing"); name != "ok" {
		t.Errorf("reading: %s %s", name, text)
	}
	if did := f.asked(); len(did) != 0 {
		t.Errorf("done: %q", did)
	}
	if err := conn.Object(Name, path).Call(BuildInterface+".Cancel", 0, noOptions).Err; err != nil {
		t.Error(err)
	}
}

// A descriptor from somebody else does not even get to the service.
func TestStrangersDescriptor(t *testing.T) {
	f, _, _ := started(t)
	startPolkit(t).says(polkitResult{Authorized: true})
	if name, _ := asNobody(t, Root, ManagerInterface+".Build", "file"); name != "org.freedesktop.DBus.Error.AccessDenied" {
		t.Errorf("got %s", name)
	}
	if did := f.asked(); len(did) != 0 {
		t.Errorf("done: %q", did)
	}
	before := openFiles(t)
	for range 3 {
		if name, text := asNobody(t, Root, ObjectManager+".GetManagedObjects", "signal", "nothing"); name != "ok" {
			t.Errorf("reading: %s %s", name, text)
		}
	}
	wantOpen(t, before)
}

// All that changes something or shows more than the properties needs a right.
func TestActionsAreAsked(t *testing.T) {
	f, _, _ := started(t)
	p := startPolkit(t)
	for method, want := range map[string]string{
		"Cancel": actionCancel, "Retry": actionBuild, "Rebuild": actionBuild, "Publish": actionPublish, "Screenshot": actionInspect, "OpenConsole": actionInspect,
	} {
		p.says(polkitResult{})
		if name, _ := asNobody(t, BuildPath(runningID), BuildInterface+"."+method); name != errorPrefix+"NotPermitted" {
			t.Errorf("%s: %s", method, name)
		}
		if actions, _, _ := p.question(); !slices.Equal(actions, []string{want}) {
			t.Errorf("%s: polkit was asked for %v", method, actions)
		}
	}
	p.says(polkitResult{})
	if name, _ := asNobody(t, Root, ManagerInterface+".Rescan"); name != errorPrefix+"NotPermitted" {
		t.Errorf("Rescan: %s", name)
	}
	if actions, _, _ := p.question(); !slices.Equal(actions, []string{actionBuild}) {
		t.Errorf("Rescan: polkit was asked for %v", actions)
	}
	if did := f.asked(); len(did) != 0 {
		t.Errorf("done: %q", did)
	}
}

// A polkit that does not answer in time is one that says no.
func TestSilentPolkit(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	<-ctx.Done()
	if err := polkitError(ctx.Err()); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("got %v", err)
	}
}
