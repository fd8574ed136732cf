package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/esxid/esxid/internal/build"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/iso"
	"github.com/esxid/esxid/test/privatebus"
)

// TestMain lets the test program be another user who calls a method.
func TestMain(m *testing.M) {
	if path := os.Getenv("BUS_TEST_CALL"); path != "" {
		os.Exit(callAsSomebody(dbus.ObjectPath(path), os.Args[1], os.Args[2:]))
	}
	os.Exit(m.Run())
}

const nobody = 65534

// patience is how long a test waits for what must come, on however busy a machine.
const patience = time.Minute

// asNobody calls a method that takes only options, as a user without rights, and
// returns the name and the text of the error.
func asNobody(t *testing.T, path dbus.ObjectPath, method string, flags ...string) (name, text string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{method}, flags...)...)
	cmd.Env = append(os.Environ(), "BUS_TEST_CALL="+string(path), "GORACE=atexit_sleep_ms=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	name, text, _ = strings.Cut(strings.TrimSpace(string(out)), " ")
	return name, text
}

func callAsSomebody(path dbus.ObjectPath, method string, how []string) int {
	// Not before this program was started: it may be where only root may go.
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)); err != nil {
		fmt.Println(err)
		return 1
	}
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	args := []any{map[string]dbus.Variant{}}
	var flags dbus.Flags
	for _, h := range how {
		switch h {
		case "interactive":
			flags |= dbus.FlagAllowInteractiveAuthorization
		case "file":
			args = []any{dbus.UnixFD(0), "x.iso", map[string]dbus.Variant{}}
		case "loglevel":
			args = []any{logControl, "LogLevel", dbus.MakeVariant("debug")}
		case "nothing":
			args = nil
		case "signal": // with a descriptor, to the service alone
			conn.Send(&dbus.Message{
				Type: dbus.TypeSignal, Body: []any{dbus.UnixFD(0)},
				Headers: map[dbus.HeaderField]dbus.Variant{
					dbus.FieldPath: dbus.MakeVariant(path), dbus.FieldDestination: dbus.MakeVariant(Name), dbus.FieldInterface: dbus.MakeVariant("x.y"),
					dbus.FieldMember: dbus.MakeVariant("Z"), dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(dbus.UnixFD(0))),
				},
			}, nil)
		}
	}
	at := strings.LastIndexByte(method, '.')
	msg := &dbus.Message{
		Type: dbus.TypeMethodCall, Flags: flags, Body: args,
		Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath: dbus.MakeVariant(path), dbus.FieldDestination: dbus.MakeVariant(Name),
			dbus.FieldInterface: dbus.MakeVariant(method[:at]), dbus.FieldMember: dbus.MakeVariant(method[at+1:]),
		},
	}
	if len(args) > 0 {
		msg.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(args...))
	}
	call := <-conn.Send(msg, make(chan *dbus.Call, 1)).Done
	if call.Err == nil {
		fmt.Println("ok")
	} else if e, ok := call.Err.(dbus.Error); ok { //nolint:errorlint // godbus returns it as it is
		fmt.Println(e.Name, e.Error())
	} else {
		fmt.Println("other", call.Err)
	}
	return 0
}

// systemBus is a private bus with our policy.
type systemBus struct {
	dir  string
	stop func()
}

func startBus(t *testing.T) *systemBus {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) { // for other users
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	policy, err := filepath.Abs("../../systemd/org.esxid1.conf")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bus.conf"), privatebus.SystemConfiguration(dir, policy), 0o644); err != nil {
		t.Fatal(err)
	}
	b := &systemBus{dir: dir}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+dir+"/bus")
	b.start(t)
	t.Cleanup(func() { b.stop() })
	return b
}

// start starts the bus, or starts it again where it was.
func (b *systemBus) start(t *testing.T) {
	t.Helper()
	cmd := exec.Command("dbus-daemon", "--nofork", "--nopidfile", "--print-address", "--config-file="+b.dir+"/bus.conf")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b.stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.Remove(filepath.Join(b.dir, "bus"))
	})
	if _, err := out.Read(make([]byte, 1)); err != nil { // it prints when it listens
		b.stop()
		t.Fatalf("dbus-daemon does not start: %v", err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
}

func connect(t *testing.T, opts ...dbus.ConnOption) *dbus.Conn {
	t.Helper()
	conn, err := dbus.ConnectSystemBus(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// fakePolkit answers what it is told to.
type fakePolkit struct {
	mu      sync.Mutex
	answer  polkitResult
	asked   []string // actions
	flags   uint32
	subject polkitSubject
}

func startPolkit(t *testing.T) *fakePolkit {
	t.Helper()
	p := &fakePolkit{}
	conn := connect(t)
	if err := conn.Export(p, polkitPath, polkitAuthority); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.RequestName(polkitName, 0); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *fakePolkit) CheckAuthorization(subject polkitSubject, action string, _ map[string]string, flags uint32, _ string) (polkitResult, *dbus.Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked, p.flags, p.subject = append(p.asked, action), flags, subject
	return p.answer, nil
}

func (p *fakePolkit) says(r polkitResult) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer, p.asked = r, nil
}

// question returns what was asked since the last answer was set.
func (p *fakePolkit) question() (actions []string, flags uint32, subject polkitSubject) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked, p.flags, p.subject
}

// fakeService is a service that notes what it is asked for.
type fakeService struct {
	mu      sync.Mutex
	shown   build.Snapshot
	calls   []string
	err     error
	changed chan struct{}
	console string // path
}

func newService() *fakeService {
	return &fakeService{shown: sample(), changed: make(chan struct{}, 1)}
}

const (
	runningID = "8.0.3-24280767-1a2b3c4d"
	doneID    = "6.7.0-8169922-00112233"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// sample is one build that runs, one that is done, and its image.
func sample() build.Snapshot {
	running := &build.Build{
		Plan: build.Plan{
			ID: runningID, Name: "esxi/8.0", Title: "VMware ESXi 8.0", Kickstart: []string{"/etc/esxid/kickstart.d/8.0.cfg"},
			ISO: iso.Info{Product: "VMware ESXi", Version: "8.0.3", Build: "24280767", SHA256: strings.Repeat("a", 64)},
		},
		State: build.Building, Created: noon,
		Steps: map[string]build.StepRecord{build.StepKickstart: {Finished: noon.Add(time.Minute), Seconds: 0.5, Note: "rendered"}},
	}
	done := &build.Build{
		Plan:  build.Plan{ID: doneID, Name: "esxi/6.7", ISO: iso.Info{Product: "VMware ESXi", Version: "6.7.0", Build: "8169922"}},
		State: build.Done, Created: noon, Changed: noon.Add(time.Hour), Steps: map[string]build.StepRecord{build.StepVerify: {Finished: noon.Add(time.Hour), Seconds: 5}},
		Image:     &build.ImageRecord{RawSize: 1 << 30, DataSize: 1 << 29, PackedSize: 1 << 28, SHA256: strings.Repeat("b", 64)},
		Published: map[string]build.Publication{"prod": {Location: "http://maas/1"}},
	}
	s := build.Snapshot{Line: "Building esxi/8.0", Builds: []build.Status{
		{Build: running, Current: true, Active: &build.Active{
			Step: build.StepInstall, Percent: 41.26, Done: 400, Total: 1000, Message: "installing: \x00\xff",
			Started: noon.Add(time.Minute), Left: 4 * time.Minute, At: noon.Add(2 * time.Minute),
		}},
		{Build: done, Current: true},
	}}
	s.Images = (&build.Store{Images: "/images"}).ImagesOf(s.Builds)
	return s
}

// show changes what is shown.
func (f *fakeService) show(change func(*build.Snapshot)) {
	f.mu.Lock()
	s := sample()
	s.Line = f.shown.Line
	change(&s)
	f.shown = s
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *fakeService) note(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
	return f.err
}

// asked returns what was asked for since the last time.
func (f *fakeService) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

func (f *fakeService) Snapshot() build.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.shown
}
func (f *fakeService) Changed() <-chan struct{} { return f.changed }

func (f *fakeService) Build(_ context.Context, file *os.File, name, by string) (string, error) {
	text, err := io.ReadAll(file)
	if err != nil {
		return "", err
	}
	return doneID, f.note("build %s of %q for %s", name, text, by)
}

func (f *fakeService) Rebuild(which, by string) (string, error) {
	return doneID, f.note("rebuild %s for %s", which, by)
}
func (f *fakeService) Retry(id, by string) error { return f.note("retry %s for %s", id, by) }
func (f *fakeService) Cancel(_ context.Context, id, by string) error {
	return f.note("cancel %s for %s", id, by)
}
func (f *fakeService) Publish(id, by string) error { return f.note("publish %s for %s", id, by) }
func (f *fakeService) Rescan()                     { _ = f.note("rescan") }
func (f *fakeService) Screenshot(_ context.Context, id string) ([]byte, error) {
	return []byte("picture of " + id), f.note("screenshot")
}

func (f *fakeService) Console(string) (*os.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.console == "" {
		return nil, fault.New(fault.TryLater, "no log yet")
	}
	return os.Open(f.console)
}

func newServer(t *testing.T, service Service) *Server {
	return &Server{
		Service: service, Version: "1.0", DropDirectory: "/var/lib/esxid/incoming",
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Level: &slog.LevelVar{}, LogTarget: "journal",
	}
}

// run runs a server until the test ends, and waits until it has the name.
func run(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	awaitOwner(t, connect(t))
}

// awaitOwner waits until the service's name has an owner.
func awaitOwner(t *testing.T, conn *dbus.Conn) {
	t.Helper()
	signals := make(chan *dbus.Signal, 10)
	conn.Signal(signals)
	if err := conn.AddMatchSignal(dbus.WithMatchInterface("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, Name)); err != nil {
		t.Fatal(err)
	}
	var owned bool
	if err := conn.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, Name).Store(&owned); err != nil {
		t.Fatal(err)
	}
	for deadline := time.After(patience); !owned; {
		select {
		case s := <-signals:
			owned = s != nil && s.Name == "org.freedesktop.DBus.NameOwnerChanged" && s.Body[2] != ""
		case <-deadline:
			t.Fatal("the service does not come to the bus")
		}
	}
}
