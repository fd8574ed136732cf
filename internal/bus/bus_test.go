package bus

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"
	"github.com/google/go-cmp/cmp"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/fault"
)

var noOptions = map[string]dbus.Variant{}

// started is a service on a bus of its own.
func started(t *testing.T) (*fakeService, *Server, *dbus.Conn) {
	t.Helper()
	startBus(t)
	f := newService()
	s := newServer(t, f)
	run(t, s)
	return f, s, connect(t)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err error, name string) {
	t.Helper()
	var e dbus.Error
	if !errors.As(err, &e) || e.Name != name {
		t.Errorf("got %v, want %s", err, name)
	}
}

func TestManagedObjects(t *testing.T) {
	_, _, conn := started(t)
	var objects map[dbus.ObjectPath]map[string]map[string]dbus.Variant
	check(t, conn.Object(Name, Root).Call(ObjectManager+".GetManagedObjects", 0).Store(&objects))
	if len(objects) != 3 {
		t.Errorf("%d objects, want two builds and an image", len(objects))
	}
	b := objects[BuildPath(runningID)][BuildInterface]
	for name, want := range map[string]any{
		"Id": runningID, "State": "building", "Step": "install", "StepIndex": uint32(2), "StepCount": uint32(6), "Progress": 41.3, "ProgressValid": true,
		"BytesDone": uint64(400), "Message": "installing: ??", "Result": "", "Image": dbus.ObjectPath("/"), "Current": true,
		"QueuedUSec": uint64(noon.UnixMicro()), "StartedUSec": uint64(noon.Add(time.Minute - 500*time.Millisecond).UnixMicro()),
		"ExpectedEndUSec": uint64(noon.Add(6 * time.Minute).UnixMicro()), "FinishedUSec": uint64(0),
	} {
		if got := b[name].Value(); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	done := objects[BuildPath(doneID)][BuildInterface]
	if done["Result"].Value() != "success" || done["Image"].Value() != ImagePath("esxi-6.7-8169922") || done["FinishedUSec"].Value() != uint64(noon.Add(time.Hour).UnixMicro()) {
		t.Errorf("the build that is done: %v", done)
	}
	image := objects[ImagePath("esxi-6.7-8169922")][ImageInterface]
	if image["Path"].Value() != "/images/esxi-6.7-8169922/vmware-esxi-6.7.0-8169922.dd.gz" || image["Build"].Value() != BuildPath(doneID) {
		t.Errorf("image: %v", image)
	}
	if diff := cmp.Diff(map[string]string{"prod": "http://maas/1"}, image["Published"].Value()); diff != "" {
		t.Error(diff)
	}
}

func TestProperties(t *testing.T) {
	_, _, conn := started(t)
	manager := conn.Object(Name, Root)
	for name, want := range map[string]any{"Version": "1.0", "State": "building", "QueueLength": uint32(0), "DropDirectory": "/var/lib/esxid/incoming"} {
		if got, err := manager.GetProperty(ManagerInterface + "." + name); err != nil || got.Value() != want {
			t.Errorf("%s is %v, %v; want %v", name, got, err, want)
		}
	}
	_, err := manager.GetProperty(ManagerInterface + ".Nothing")
	wantError(t, err, "org.freedesktop.DBus.Error.UnknownProperty")
	_, err = manager.GetProperty(BuildInterface + ".State")
	wantError(t, err, "org.freedesktop.DBus.Error.UnknownInterface")
	wantError(t, manager.SetProperty(ManagerInterface+".Version", dbus.MakeVariant("2")), "org.freedesktop.DBus.Error.PropertyReadOnly")
	wantError(t, manager.SetProperty(ManagerInterface+".Nothing", dbus.MakeVariant("2")), "org.freedesktop.DBus.Error.UnknownProperty")
	_, err = conn.Object(Name, BuildPath("none")).GetProperty(BuildInterface + ".State")
	wantError(t, err, "org.freedesktop.DBus.Error.UnknownObject")
	wantError(t, manager.Call(ManagerInterface+".Nothing", 0).Err, "org.freedesktop.DBus.Error.UnknownMethod")
	wantError(t, manager.Call(ManagerInterface+".Rescan", 0, "x").Err, "org.freedesktop.DBus.Error.InvalidArgs")
	wantError(t, manager.Call(ManagerInterface+".Rescan", 0, map[string]dbus.Variant{"x": dbus.MakeVariant(1)}).Err, errorPrefix+"InvalidArgument")
}

// What busctl tree and busctl introspect need.
func TestIntrospection(t *testing.T) {
	_, _, conn := started(t)
	var found []string
	var walk func(path dbus.ObjectPath)
	walk = func(path dbus.ObjectPath) {
		var text string
		check(t, conn.Object(Name, path).Call(introspectable+".Introspect", 0).Store(&text))
		var node introspect.Node
		if err := xml.Unmarshal([]byte(text), &node); err != nil {
			t.Fatalf("%s: %v\n%s", path, err, text)
		}
		for _, i := range node.Interfaces {
			found = append(found, string(path)+" "+i.Name)
			if i.Name == BuildInterface && (len(i.Properties) != len(buildInterface.properties) || len(i.Methods) != len(buildInterface.methods)) {
				t.Errorf("%s has %d properties and %d methods", path, len(i.Properties), len(i.Methods))
			}
		}
		for _, child := range node.Children {
			walk(dbus.ObjectPath(strings.TrimSuffix(string(path), "/") + "/" + child.Name))
		}
	}
	walk("/")
	for _, want := range []string{
		"/org/esxid1 " + ManagerInterface, "/org/esxid1 " + ObjectManager, "/org/esxid1 " + Properties,
		string(BuildPath(runningID)) + " " + BuildInterface, string(BuildPath(doneID)) + " " + BuildInterface,
		string(ImagePath("esxi-6.7-8169922")) + " " + ImageInterface, string(logControlPath) + " " + logControl,
		"/org/esxid1/build " + introspectable,
	} {
		if !slices.Contains(found, want) {
			t.Errorf("not found: %s in\n%s", want, strings.Join(found, "\n"))
		}
	}
}

// listen collects the service's signals.
func listen(t *testing.T, conn *dbus.Conn) <-chan *dbus.Signal {
	t.Helper()
	signals := make(chan *dbus.Signal, 1000)
	conn.Signal(signals)
	check(t, conn.AddMatchSignal(dbus.WithMatchSender(Name)))
	return signals
}

// next waits for a signal of this name.
func next(t *testing.T, signals <-chan *dbus.Signal, name string) *dbus.Signal {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case s := <-signals:
			if s != nil && s.Name == name {
				return s
			}
		case <-deadline:
			t.Fatalf("no signal %s", name)
		}
	}
}

func TestSignals(t *testing.T) {
	f, _, conn := started(t)
	signals := listen(t, conn)
	f.show(func(s *build.Snapshot) { s.Builds[0].Active.Percent = 50 })
	changed := next(t, signals, Properties+".PropertiesChanged")
	want := map[string]dbus.Variant{"Progress": dbus.MakeVariant(50.0)}
	if changed.Path != BuildPath(runningID) || changed.Body[0] != BuildInterface || !cmp.Equal(want, changed.Body[1], cmp.Comparer(func(a, b dbus.Variant) bool { return a.String() == b.String() })) {
		t.Errorf("got %v %v", changed.Path, changed.Body)
	}
	// The build is done, another appears.
	other := &build.Build{Plan: build.Plan{ID: "9.0.0-1-00000000", Name: "esxi/9.0"}, State: build.Queued}
	f.show(func(s *build.Snapshot) {
		s.Builds[0].Build.State, s.Builds[0].Active = build.Done, nil
		s.Builds = append(s.Builds, build.Status{Build: other, Queue: 1})
	})
	if s := next(t, signals, ObjectManager+".InterfacesAdded"); s.Body[0] != BuildPath(other.ID()) {
		t.Errorf("added: %v", s.Body)
	}
	if s := next(t, signals, ManagerInterface+".BuildFinished"); !slices.Equal(s.Body, []any{BuildPath(runningID), runningID, "success"}) {
		t.Errorf("finished: %v", s.Body)
	}
	if s := next(t, signals, ManagerInterface+".BuildAdded"); !slices.Equal(s.Body, []any{BuildPath(other.ID()), other.ID()}) {
		t.Errorf("added: %v", s.Body)
	}
	f.show(func(s *build.Snapshot) {})
	if s := next(t, signals, ObjectManager+".InterfacesRemoved"); s.Body[0] != BuildPath(other.ID()) {
		t.Errorf("removed: %v", s.Body)
	}
}

// However often something changes, the bus hears of it twice a second; and of the last
// state.
func TestSignalsAreBatched(t *testing.T) {
	f, _, conn := started(t)
	signals := listen(t, conn)
	begin := time.Now()
	for n := range 1500 {
		f.show(func(s *build.Snapshot) { s.Builds[0].Active.Percent = float64(n) / 20 })
		time.Sleep(time.Millisecond) // the pace of the source, not a wait for anything
	}
	f.show(func(s *build.Snapshot) { s.Builds[0].Active.Percent = 99 })
	count := 0
	for last := 0.0; last != 99; {
		s := next(t, signals, Properties+".PropertiesChanged")
		if changed, ok := s.Body[1].(map[string]dbus.Variant); ok && s.Path == BuildPath(runningID) {
			last, _ = changed["Progress"].Value().(float64)
			count++
		}
	}
	took := time.Since(begin)
	t.Logf("1501 changes in %v gave %d signals", took.Round(time.Millisecond), count)
	if limit := int(took/interval) + 1; count > limit {
		t.Errorf("%d signals in %v, at most %d expected", count, took, limit)
	}
}

func TestMethods(t *testing.T) {
	f, _, conn := started(t)
	running, manager := conn.Object(Name, BuildPath(runningID)), conn.Object(Name, Root)
	for _, method := range []string{"Cancel", "Retry", "Rebuild", "Publish"} {
		check(t, running.Call(BuildInterface+"."+method, 0, noOptions).Err)
	}
	var path dbus.ObjectPath
	check(t, manager.Call(ManagerInterface+".Rebuild", 0, "esxi/6.7", noOptions).Store(&path))
	if path != BuildPath(doneID) {
		t.Errorf("Rebuild returned %s", path)
	}
	check(t, manager.Call(ManagerInterface+".GetBuild", 0, runningID).Store(&path))
	if path != BuildPath(runningID) {
		t.Errorf("GetBuild returned %s", path)
	}
	wantError(t, manager.Call(ManagerInterface+".GetBuild", 0, "x").Err, errorPrefix+"InvalidArgument")
	check(t, manager.Call(ManagerInterface+".Publish", 0, doneID, noOptions).Err)
	check(t, manager.Call(ManagerInterface+".Rescan", 0, noOptions).Err)
	want := []string{
		"cancel " + runningID + " for root", "retry " + runningID + " for root", "rebuild " + runningID + " for root", "publish " + runningID + " for root",
		"rebuild esxi/6.7 for root", "publish " + doneID + " for root", "rescan",
	}
	if diff := cmp.Diff(want, f.asked()); diff != "" {
		t.Error(diff)
	}
	for class, name := range classNames {
		f.mu.Lock()
		f.err = fault.New(class, "because")
		f.mu.Unlock()
		wantError(t, running.Call(BuildInterface+".Retry", 0, noOptions).Err, errorPrefix+name)
	}
}

// A method that changes something replies when the properties show it.
func TestReadAfterChange(t *testing.T) {
	f, _, conn := started(t)
	running := conn.Object(Name, BuildPath(runningID))
	for _, line := range []string{"a", "b", "c"} { // also right after another round of changes
		f.mu.Lock()
		f.shown.Line = line
		f.mu.Unlock()
		check(t, running.Call(BuildInterface+".Retry", 0, noOptions).Err)
		if got, err := conn.Object(Name, Root).GetProperty(ManagerInterface + ".Status"); err != nil || got.Value() != line {
			t.Errorf("Status is %v, %v; want %s", got, err, line)
		}
	}
}

func TestDescriptors(t *testing.T) {
	f, _, conn := started(t)
	file := filepath.Join(t.TempDir(), "x.iso")
	check(t, os.WriteFile(file, []byte("an ISO"), 0o600))
	iso, err := os.Open(file)
	check(t, err)
	defer iso.Close()
	manager, running := conn.Object(Name, Root), conn.Object(Name, BuildPath(runningID))
	read := func(fd dbus.UnixFD) string {
		f := os.NewFile(uintptr(fd), "received")
		defer f.Close()
		b, err := io.ReadAll(f)
		check(t, err)
		if _, err := f.Write([]byte("x")); err == nil {
			t.Error("what was received can be changed")
		}
		return string(b)
	}
	round := func() {
		_, err := iso.Seek(0, io.SeekStart)
		check(t, err)
		var path dbus.ObjectPath
		check(t, manager.Call(ManagerInterface+".Build", 0, dbus.UnixFD(iso.Fd()), "my.iso", noOptions).Store(&path))
		wantError(t, manager.Call(ManagerInterface+".Build", 0, dbus.UnixFD(iso.Fd()), "my.iso").Err, "org.freedesktop.DBus.Error.InvalidArgs")
		var fd dbus.UnixFD
		check(t, running.Call(BuildInterface+".Screenshot", 0, noOptions).Store(&fd))
		if got := read(fd); got != "picture of "+runningID {
			t.Errorf("screenshot: %q", got)
		}
		check(t, running.Call(BuildInterface+".OpenConsole", 0, noOptions).Store(&fd))
		if got := read(fd); got != "an ISO" {
			t.Errorf("console: %q", got)
		}
	}
	wantError(t, running.Call(BuildInterface+".OpenConsole", 0, noOptions).Err, errorPrefix+"TryLater")
	f.mu.Lock()
	f.console = file
	f.mu.Unlock()
	round()
	if got, want := f.asked(), `build my.iso of "an ISO" for root`; !slices.Contains(got, want) {
		t.Errorf("asked for: %q", got)
	}
	before := openFiles(t)
	for range 20 {
		round()
	}
	wantOpen(t, before)
}

// A call may speak of a descriptor that does not come with it. It must not be taken for one of
// the service's own, of which the first has the number that such a call has, 0.
func TestDescriptorThatIsNotThere(t *testing.T) {
	f, _, conn := started(t)
	msg := &dbus.Message{
		Type: dbus.TypeMethodCall, Body: []any{dbus.UnixFDIndex(0), "my.iso", noOptions},
		Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath: dbus.MakeVariant(Root), dbus.FieldDestination: dbus.MakeVariant(Name),
			dbus.FieldInterface: dbus.MakeVariant(ManagerInterface), dbus.FieldMember: dbus.MakeVariant("Build"),
			dbus.FieldSignature: dbus.MakeVariant(dbus.ParseSignatureMust("hsa{sv}")),
		},
	}
	before := openFiles(t)
	wantError(t, (<-conn.Send(msg, make(chan *dbus.Call, 1)).Done).Err, errorPrefix+"InvalidArgument")
	if got := openFiles(t); got != before {
		t.Errorf("%d descriptors are open, %d were before", got, before)
	}
	if did := f.asked(); len(did) != 0 {
		t.Errorf("done: %q", did)
	}
}

// One connection cannot keep the service busy with any number of calls, and not at all
// keep others from being served.
func TestManyCalls(t *testing.T) {
	f, _, conn := started(t)
	running := conn.Object(Name, BuildPath(runningID))
	replies := make(chan *dbus.Call, maxCalls+1)
	f.mu.Lock() // nothing gets done
	for range maxCalls + 1 {
		running.Go(BuildInterface+".Cancel", 0, replies, noOptions)
	}
	refused := <-replies
	check(t, connect(t).Object(Name, Root).Call(ObjectManager+".GetManagedObjects", 0).Err)
	f.mu.Unlock()
	wantError(t, refused.Err, "org.freedesktop.DBus.Error.LimitsExceeded")
	for range maxCalls {
		check(t, (<-replies).Err)
	}
	check(t, running.Call(BuildInterface+".Cancel", 0, noOptions).Err)
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	return len(entries)
}

// wantOpen checks that no more descriptors stay open. The service closes its own after its
// reply, so there may be one more for a moment.
func wantOpen(t *testing.T, most int) {
	t.Helper()
	for deadline := time.Now().Add(patience); openFiles(t) > most; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors are open, %d were before", openFiles(t), most)
		}
	}
}

func TestLogControl(t *testing.T) {
	_, s, conn := started(t)
	control := conn.Object(Name, logControlPath)
	for name, want := range map[string]string{"LogLevel": "info", "LogTarget": "journal", "SyslogIdentifier": "esxid"} {
		if got, err := control.GetProperty(logControl + "." + name); err != nil || got.Value() != want {
			t.Errorf("%s is %v, %v; want %s", name, got, err, want)
		}
	}
	check(t, control.SetProperty(logControl+".LogLevel", dbus.MakeVariant("debug")))
	if got, err := control.GetProperty(logControl + ".LogLevel"); err != nil || got.Value() != "debug" || s.Level.Level() != slog.LevelDebug {
		t.Errorf("LogLevel is %v, %v; the level is %v", got, err, s.Level)
	}
	check(t, control.SetProperty(logControl+".LogLevel", dbus.MakeVariant("crit")))
	if s.Level.Level() != slog.LevelError {
		t.Errorf("crit gives %v", s.Level)
	}
	wantError(t, control.SetProperty(logControl+".LogLevel", dbus.MakeVariant("loud")), errorPrefix+"InvalidArgument")
	wantError(t, control.SetProperty(logControl+".LogLevel", dbus.MakeVariant(7)), "org.freedesktop.DBus.Error.InvalidArgs")
	wantError(t, control.SetProperty(logControl+".LogTarget", dbus.MakeVariant("console")), notSupported)
	wantError(t, control.SetProperty(logControl+".SyslogIdentifier", dbus.MakeVariant("x")), "org.freedesktop.DBus.Error.PropertyReadOnly")
	if name, _ := asNobody(t, logControlPath, Properties+".Set", "loglevel"); name != errorPrefix+"NotPermitted" {
		t.Errorf("nobody changes the log level: %s", name)
	}
}

// The bus goes away in the middle and comes back; the service does too.
func TestBusRestart(t *testing.T) {
	b := startBus(t)
	f := newService()
	s := newServer(t, f)
	var log strings.Builder
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	awaitOwner(t, connect(t))
	for range 2 {
		b.stop()
		f.show(func(s *build.Snapshot) { s.Builds[0].Active.Percent = 77 })
		b.start(t)
		conn := connect(t)
		awaitOwner(t, conn)
		if got, err := conn.Object(Name, BuildPath(runningID)).GetProperty(BuildInterface + ".Progress"); err != nil || got.Value() != 77.0 {
			t.Errorf("Progress is %v, %v", got, err)
		}
	}
	cancel()
	<-done
	if text := log.String(); strings.Count(text, "Not on the system bus") != 2 || strings.Count(text, "On the system bus again") != 2 {
		t.Errorf("logged:\n%s", text)
	}
}

// A signal that says the name is lost counts only if it is the bus's own.
func TestForgedNameLost(t *testing.T) {
	startBus(t)
	f := newService()
	s := newServer(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	ready, gone := make(chan struct{}), make(chan error, 1)
	go func() { gone <- s.serve(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-gone:
		t.Fatal(err)
	}
	conn := connect(t)
	signals := listen(t, conn)
	check(t, conn.Send(&dbus.Message{
		Type: dbus.TypeSignal, Body: []any{Name},
		Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/DBus")), dbus.FieldDestination: dbus.MakeVariant(Name),
			dbus.FieldInterface: dbus.MakeVariant("org.freedesktop.DBus"), dbus.FieldMember: dbus.MakeVariant("NameLost"),
			dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf("")),
		},
	}, nil).Err)
	// It comes before the reply to this, and is looked at between two changes; of the second
	// nothing is heard if the service has left the bus.
	check(t, conn.Object(Name, Root).Call(ObjectManager+".GetManagedObjects", 0).Err)
	for _, percent := range []float64{50, 60} {
		f.show(func(s *build.Snapshot) { s.Builds[0].Active.Percent = percent })
		next(t, signals, Properties+".PropertiesChanged")
	}
	cancel()
	<-gone
}

// Without a bus, or with the name taken, the service does not mind.
func TestNoBus(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+t.TempDir()+"/none")
	f := newService()
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond) // two attempts
	defer cancel()
	s := newServer(t, f)
	var log strings.Builder
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	s.Run(ctx)
	if strings.Count(log.String(), "level=WARN") != 1 {
		t.Errorf("logged:\n%s", log.String())
	}
}

func TestNameTaken(t *testing.T) {
	startBus(t)
	conn := connect(t)
	_, err := conn.RequestName(Name, 0)
	check(t, err)
	s := newServer(t, newService())
	if err := s.serve(t.Context(), func() { t.Error("ready") }); err == nil || !strings.Contains(err.Error(), "another process has it") {
		t.Errorf("got %v", err)
	}
}
