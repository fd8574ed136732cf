package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/esxid/esxid/internal/image"
)

// isoSize is that of a current installer ISO with a vendor's additions.
const isoSize = 640 << 20

// report is what the child with the role "steps" prints.
type report struct {
	Steps []step
	usage
}

type step struct {
	Name    string
	Seconds float64
}

func (r report) total() (seconds float64) {
	for _, s := range r.Steps {
		seconds += s.Seconds
	}
	return seconds
}

// steps does to dir/disk.raw what a build does after its virtual machine has
// ended, and before that hashes an ISO.
func steps(ctx context.Context, dir string) error {
	iso, disk, packed := filepath.Join(dir, "installer.iso"), filepath.Join(dir, "disk.raw"), filepath.Join(dir, "image.dd.gz")
	if err := makeISO(iso); err != nil {
		return err
	}
	hook := make([]byte, 200<<10)
	_, _ = rand.Read(hook)
	files := []image.PayloadFile{{Path: "curtin/curtin-hooks", Data: hook}, {Path: "curtin/esxid/agent.py", Data: hook}}
	esp := partitions[0]
	first, length := esp.first*sector, (esp.last-esp.first+1)*sector
	var result image.PackResult

	var r report
	for _, s := range []struct {
		name string
		do   func() error
	}{
		{"hash", func() error { return hashFile(iso) }},
		{"customize", func() error {
			raw, err := os.OpenFile(disk, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer raw.Close()
			saved, err := os.Create(filepath.Join(dir, "esp"))
			if err != nil {
				return err
			}
			defer saved.Close()
			err = image.SaveRegion(ctx, raw, first, length, saved)
			return errors.Join(err, image.WritePayload(ctx, image.Target{File: raw, Offset: first}, length, files, 1<<20))
		}},
		{"pack", func() (err error) {
			result, err = image.Pack(ctx, disk, packed, image.PackOptions{})
			return err
		}},
		{"verify", func() error {
			e := image.Expect{RawSize: result.RawSize, PackedSize: result.PackedSize, SHA256: result.SHA256, Files: image.Sums(files)}
			for _, p := range partitions {
				guid, err := image.ParseGUID(p.typ)
				if err != nil {
					return err
				}
				e.Partitions = append(e.Partitions, image.ExpectedPartition{Number: p.number, Type: guid, First: p.first, Last: p.last, FAT: p.number < 7})
			}
			_, err := image.Verify(ctx, packed, e, nil)
			return err
		}},
	} {
		start := time.Now()
		if err := s.do(); err != nil {
			return err
		}
		r.Steps = append(r.Steps, step{s.name, time.Since(start).Seconds()})
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// makeISO writes a file as large as an ISO, unless it is there from the last
// round.
func makeISO(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(f, rand.Reader, isoSize)
	return errors.Join(err, f.Sync())
}

func hashFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{sha256.New()}, struct{ io.Reader }{f}, make([]byte, 1<<20))
	return err
}
