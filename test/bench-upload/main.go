// Command bench-upload measures how fast an image is uploaded to MAAS, against
// a bare loop of PUT requests to the same server.
//
// The server is the stand-in of test/maassim in a process of its own; client
// and loop are processes too, so that their peak resident memory is theirs
// alone. Both take the same file and send the same 4 MiB chunks; the time from
// the first chunk to the last answer is compared. Before the first chunk the
// client makes sure that the file is the one that was verified, which the loop
// does not; that time is printed too. Rounds alternate, the best of each
// counts, because what else the machine does only ever makes it slower.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// job is what a child is asked to upload.
type job struct {
	URL, KeyFile, Image, Name, SHA256 string
	Size                              int64
}

// report is what a child has measured.
type report struct {
	Seconds float64 // from the first chunk to the last answer
	Before  float64 // until the first chunk
	RSS     int64   // peak, KiB; filled in by the parent
}

func main() {
	size := flag.Int64("mib", 1024, "size of the image")
	rounds := flag.Int("rounds", 5, "how often each is measured")
	dir := flag.String("dir", os.TempDir(), "where the image and the server's data go")
	generation := flag.String("generation", "3.6", "of the MAAS")
	flag.Parse()
	var err error
	switch role := flag.Arg(0); role {
	case "":
		err = compare(*dir, *generation, *size<<20, *rounds)
	case "serve":
		err = serve(*dir, *generation)
	case "client", "loop":
		err = child(role)
	default:
		err = fmt.Errorf("no role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-upload:", err)
		os.Exit(1)
	}
}

func compare(dir, generation string, size int64, rounds int) error {
	dir, err := os.MkdirTemp(dir, "esxid-bench-upload-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	j := job{Image: filepath.Join(dir, "image.dd.gz"), Size: size, KeyFile: filepath.Join(dir, "key")}
	if j.SHA256, err = makeImage(j.Image, size); err != nil {
		return err
	}
	server, out, err := start(dir, generation)
	if err != nil {
		return err
	}
	defer func() {
		_ = server.Process.Signal(os.Interrupt) // it may be gone already
		_ = server.Wait()                       // all was measured before
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the server does not start: %w", err)
	}
	j.URL = strings.TrimSpace(line)

	best := map[string]report{}
	for range rounds {
		for _, role := range []string{"loop", "client"} {
			j.Name = "esxi/bench-" + role
			r, err := measure(role, j)
			if err != nil {
				return fmt.Errorf("%s: %w", role, err)
			}
			if b, ok := best[role]; !ok || r.Seconds < b.Seconds {
				r.RSS = max(r.RSS, b.RSS)
				best[role] = r
			}
		}
	}
	loop, client := best["loop"], best["client"]
	mb := float64(size) / 1e6
	fmt.Printf("upload of %d MiB to MAAS %s on the loopback interface, best of %d\n", size>>20, generation, rounds)
	for _, role := range []string{"loop", "client"} {
		r := best[role]
		fmt.Printf("  %-18s %7.2f s  %6.0f MB/s  %3d MiB resident  (before the first chunk: %.2f s)\n",
			map[string]string{"loop": "bare loop of PUTs", "client": "esxid's client"}[role], r.Seconds, mb/r.Seconds, r.RSS>>10, r.Before)
	}
	fmt.Printf("  ratio of the rates %7.2f  (aim: at least 0.90, under 48 MiB)\n", loop.Seconds/client.Seconds)
	return nil
}

// makeImage writes bytes that no disk or network can compress.
func makeImage(path string, size int64) (sha string, err error) {
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	random := rand.NewChaCha8([32]byte{1})
	if _, err := io.CopyN(f, random, size); err != nil {
		return "", err
	}
	return sum(path)
}

// start starts the server in a process of its own.
func start(dir, generation string) (*exec.Cmd, io.Reader, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(self, "-dir", dir, "-generation", generation, "serve")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	return cmd, out, cmd.Start()
}

// measure runs one upload in a process of its own.
func measure(role string, j job) (report, error) {
	self, err := os.Executable()
	if err != nil {
		return report{}, err
	}
	in, err := json.Marshal(j)
	if err != nil {
		return report{}, err
	}
	cmd := exec.Command(self, role)
	cmd.Stdin, cmd.Stderr = strings.NewReader(string(in)), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return report{}, err
	}
	var r report
	if err := json.Unmarshal(out, &r); err != nil {
		return report{}, err
	}
	r.RSS = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
	return r, nil
}
