package main

// Where each kind of bad input is tested; names without a package are scripts in
// testdata/script.
//
//	not an ISO                     inspect, build_refused, run; iso.TestOpenRefuses, daemon.TestNotAnInstaller
//	a Windows or Debian ISO        inspect (Debian); iso.TestOtherISOs (both)
//	ISO cut short                  inspect; iso.TestCutShort (at every sector), watch.TestRefused
//	METADATA against BOOT.CFG      inspect; iso.TestIdentifyRefuses, iso.TestIdentifyWarns
//	ISO changes while it is read   run; TestChangedWhileRead, iso.TestUnchanged, iso.TestSHA256
//	unreadable ISO                 inspect (as nobody); iso.TestOpenUnreadable, watch.TestMadeReadable
//	symlink, FIFO, directory, empty in incoming
//	                               run; watch.TestRefused, daemon.TestRefusedIsMovedAway
//	two ISOs of one version        daemon.TestTwoISOsOfOneName
//	kickstart with errors          lint, build_refused, build_plan; kickstart.TestLint (each error), kickstart.TestRenderBad
//	QEMU missing                   build_refused; vm.TestResolveWithoutQEMU, daemon.TestFailures
//	no KVM                         build_refused; vm.TestResolve, vm.TestResolveNotPermitted
//	no mtools                      build_refused; image.TestWritePayloadWithoutMtools
//	no nbd                         build_refused; the tests of package nbd
//	disk full                      disk_full (each step), build_vm (under the installer), pack; image.TestPackDiskFull,
//	                               vm.TestConsoleFullDisk, build.TestHaveRoom, directory.TestDiskFull, daemon.TestNoRoomForTheReason
//	image edited after verify      verify, publish; maas.TestEditedImage, maas.TestEditedWhileUploaded, directory.TestRefused
//	wrong, revoked, user's key     publish; maas.TestRefusals
//	MAAS down                      publish; maas.TestDown, daemon.TestPublishingIsRetriedLater
//	MAAS answers HTML              publish; maas.TestRefusals
//
// and of what the service meets:
//
//	unknown key, wrong type, unreachable path
//	                               run, service; at a reload daemon.TestReloadRefused
//	/etc/esxid missing, unreadable, of a wrong owner
//	                               service (as nobody), doctor; doctor.TestConfiguration
//	override or password file unreadable
//	                               daemon.TestCannotPlan, daemon.TestTroubleRemovesNothing
//	no MAAS key yet                doctor; daemon.TestNoCredential
//	/var full                      service (an ISO's record, a rejected file), disk_full (each step);
//	                               daemon.TestRecordIsWrittenLater, daemon.TestDiskLow
//	damaged build.json             daemon.TestDamagedRecordIsLeftAlone, build.TestDamagedRecords
//	clock that jumps               daemon.TestClockSetBack, daemon.TestClockSetForward,
//	                               daemon.TestISODroppedWithTheClockSetBack
//	two services                   run; daemon.TestSecondDaemonIsRefused, bus.TestNameTaken
//	target unreachable             daemon.TestTargetUnreachable, daemon.TestPublicationShowsTheTarget
//	D-Bus restarted or missing     bus; bus.TestBusRestart, bus.TestNoBus, units.TestBusIsRestarted
//	polkit missing or silent       bus.TestWithoutPolkit, bus.TestSilentPolkit
//	a loop that hangs              daemon.TestStuckLoopStopsThePings
//	journal stopped                journal.TestJournalDoesNotRead, journal.TestJournalIsNotThere

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/esxid/esxid/test/esxisim"
)

func TestMain(m *testing.M) {
	testscript.Main(suite{m}, map[string]func(){
		"esxid":        main,
		"esxid-nobody": func() { becomeNobody(); main() },
	})
}

// nobody is a user who owns nothing and may do nothing (Debian's).
const nobody = 65534

// becomeNobody gives up root for this process. A user other than root has
// nothing to give up.
func becomeNobody() {
	if os.Getuid() != 0 {
		return
	}
	for _, err := range []error{syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)} {
		if err != nil {
			fmt.Fprintln(os.Stderr, "cannot become nobody:", err)
			os.Exit(1)
		}
	}
}

// suite makes room for what several scripts share.
type suite struct{ *testing.M }

func (s suite) Run() int {
	dir, err := os.MkdirTemp("", "esxid-script-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	shared.dir = dir
	return s.M.Run()
}

// shared holds the ISOs that were made, because each takes a second.
var shared = isoCache{made: map[esxisim.Options]func() (string, error){}}

type isoCache struct {
	dir  string
	mu   sync.Mutex
	made map[esxisim.Options]func() (string, error)
}

// iso returns the path of an ISO, which must not be changed.
func (c *isoCache) iso(o esxisim.Options) (string, error) {
	c.mu.Lock()
	once := c.made[o]
	if once == nil {
		path := filepath.Join(c.dir, fmt.Sprintf("%d.iso", len(c.made)))
		once = sync.OnceValues(func() (string, error) { return path, esxisim.BuildISO(context.Background(), o, path) })
		c.made[o] = once
	}
	c.mu.Unlock()
	return once()
}

// TestScript runs the scripts in testdata/script, which use esxid as people do,
// with these commands beside testscript's own:
//
//	exits CODE PROGRAM ARGS...      runs a program and checks its exit code
//	fails CODE esxid ARGS...        the same for a failure: nothing on stdout, one message on stderr
//	fails-full CODE esxid ARGS...   the same with a full disk behind stdout
//	normal stdout|stderr FILE       writes a program's output to FILE without what differs from run to run
//	mkiso [--version V] [--build B] [--oem O] ISO
//	                                makes the installer ISO of a simulated ESXi
//	preinstall ISO DIR [STEP [CONFIG]]
//	                                makes the record and the disk of a build of ISO in the directory DIR
//	                                in which all steps up to STEP (install) are done; "payload" and
//	                                "record" are customize before it writes those
//	toml OUT IN                     writes IN with $NAME replaced as OUT
//	maas [FAULT...]                 serves a MAAS; $MAAS_URL, $MAAS_KEY and $MAAS_USER_KEY are its
//	                                address and the files with an administrator's and a user's key
//	maas-revoke                     revokes the administrator's key
//	maas-has NAME FILE              checks that the MAAS serves FILE as NAME; [!] that it has no NAME
//	system-bus                      starts a system bus, or restarts the one there is
//	await-build NAME STATE [ERROR]  waits until the service's build of NAME is in STATE
//	tmpfs SIZE DIR                  mounts a small file system (these tests run as root)
//	fill DIR KIB                    leaves KIB free in the file system of DIR
//	empty DIR                       undoes it
//	cp-r FROM TO                    copies a directory, its holes too
//	mkfifo PATH, truncate SIZE FILE, replace OLD NEW FILE (of the same length)
//	flock PATH                      holds a lock until the script ends
//	await PATH, await-gone PATH     waits until PATH is there, or is not
//	await-open FILE                 waits until a program has FILE open, and not only for a short look
//	admitted ISO STATE              puts ISO among those a service has accepted
//	await-text PATTERN FILE         waits until a line of FILE matches
//	hangup                          sends SIGHUP to the last program in the background
//	left DIR [NAME...]              checks the names in DIR, those with a dot included
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "fails": fails, "fails-full": failsFull, "normal": normal,
			"toml": expand, "mkiso": mkiso, "preinstall": preinstall, "admitted": admitted,
			"maas": serveMAAS, "maas-revoke": revokeKey, "maas-has": maasHas,
			"system-bus": systemBus, "await-build": awaitBuild,
			"tmpfs": tmpfs, "fill": fill, "empty": empty,
			"cp-r": copyTree, "mkfifo": mkfifo, "truncate": truncate, "replace": replace, "flock": flock, "await": await, "await-gone": awaitGone, "await-open": awaitOpen, "await-text": awaitText, "hangup": hangUp, "left": left,
		},
	})
}

// setup gives each script a host of its own: no configuration in /etc, and in
// $BIN nothing but esxid.
func setup(e *testscript.Env) error {
	bin, _, _ := strings.Cut(e.Getenv("PATH"), string(os.PathListSeparator))
	e.Setenv("BIN", bin)
	// Under the race detector every program that succeeds would sleep for a second.
	e.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	e.Values[maasKey{}], e.Values[busKey{}] = &maasState{}, &busState{}
	e.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+e.WorkDir+"/no-bus")
	// For the scripts that run esxid as somebody else.
	for dir := e.WorkDir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// volatile is what differs between two runs of the same command.
var volatile = []struct {
	pattern *regexp.Regexp
	word    string
}{
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "SHA256"},
	{regexp.MustCompile(`(\d-\d+)-[0-9a-f]{8}\b`), "$1-KEY"},
	{regexp.MustCompile(`(?m)^[^:\n]+: (\d+%, )?\d+:\d\d(:\d\d)? (left|so far).*\n`), ""}, // of a step that takes long
	{regexp.MustCompile(`\b(\d+h\d+m|\d+m\d+s|\d+(\.\d+)?s)\b`), "TIME"},
	{regexp.MustCompile(`"seconds": ?[0-9.e-]+`), `"seconds": SECONDS`},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.0-9]*Z`), "DATE"},
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+`), "http://MAAS"},
	{regexp.MustCompile(`("size": |size: +)\d+`), "${1}SIZE"},
	{regexp.MustCompile(`\b\d+ (MiB|files|checks)\b`), "N $1"},
}

func normal(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: normal stdout|stderr FILE")
	}
	text := ts.ReadFile(args[0])
	for _, v := range volatile {
		text = v.pattern.ReplaceAllString(text, v.word)
	}
	text = strings.ReplaceAll(text, ts.Getenv("WORK"), "$WORK")
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o644))
}
