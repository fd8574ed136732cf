// Command bench measures what esxid does to an installed disk, against what
// others do with the same disk in the same run.
//
// The disk has 32 GiB, of which 1 GiB is written in about 200 extents: half of
// it incompressible, the rest programs, text and zeros that were written. It is
// the same on every machine with the same Go release. Each measured program is a
// process of its own, so that its CPU time and peak memory are its own.
//
// What it needs beside time: five times the written data in -dir. It leaves
// nothing there.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

type options struct {
	dir    string
	layout string
	data   int64
	rounds int
	gzip   bool
	unpack bool
	limit  time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.dir, "dir", os.TempDir(), "where the disk and the images go")
	flag.StringVar(&o.layout, "layout", layoutSpread, `where the data is: "spread" over the disk, or "esxi", at the heads of the partitions`)
	mib := flag.Int64("mib", 1024, "written data")
	flag.IntVar(&o.rounds, "rounds", 3, "how often esxid is measured; the best counts")
	flag.BoolVar(&o.gzip, "gzip", true, "measure gzip -6 too, which takes minutes")
	flag.BoolVar(&o.unpack, "unpack", false, "measure what a deployment needs to unpack the images")
	flag.DurationVar(&o.limit, "limit", 30*time.Minute, "stop after this time")
	flag.Parse()
	o.data = *mib << 20

	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	switch role := flag.Arg(0); role {
	case "":
		return compare(ctx, o)
	case "disk":
		return makeDisk(flag.Arg(1), o.layout, o.data)
	case "steps":
		return steps(ctx, flag.Arg(1))
	default:
		return fmt.Errorf("no role %q", role)
	}
}

func compare(ctx context.Context, o options) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(o.dir, &fs); err != nil {
		return err
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < 5*o.data {
		return fmt.Errorf("%s has %d MiB free, %d are needed; use -dir", o.dir, free>>20, 5*o.data>>20)
	}
	dir, err := os.MkdirTemp(o.dir, "esxid-bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	esxid := filepath.Join(dir, "esxid")
	if _, err := measure(ctx, "", "go", "build", "-buildvcs=false", "-o", esxid, "./cmd/esxid"); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	disk := filepath.Join(dir, "disk.raw")
	// In another process: the memory of this one counts for its children too,
	// since the kernel's peak is that of the process before it became another.
	if _, err := measure(ctx, "", self, "-layout", o.layout, fmt.Sprint("-mib=", o.data>>20), "disk", disk); err != nil {
		return err
	}
	count, written, err := countExtents(disk)
	if err != nil {
		return err
	}
	fmt.Printf("packing a disk of %d GiB with %.2f GiB of data in %d extents (%s)\n", diskSize>>30, float64(written)/(1<<30), count, o.layout)

	peers := [][]string{{"pigz", "-6", "-c", disk}}
	if o.gzip {
		peers = append(peers, []string{"gzip", "-6", "-c", disk})
	}
	if err := comparePacking(ctx, o, esxid, disk, dir, peers); err != nil {
		return err
	}
	return reportSteps(ctx, o, self, dir)
}

// comparePacking measures esxid pack and its peers.
func comparePacking(ctx context.Context, o options, esxid, disk, dir string, peers [][]string) error {
	ours := filepath.Join(dir, "esxid.gz")
	best := usage{Wall: o.limit}
	for range o.rounds {
		u, err := measure(ctx, "", esxid, "pack", "--json", disk, ours)
		if err != nil {
			return err
		}
		best = best.better(u)
	}
	if err := best.measureSize(ours); err != nil {
		return err
	}
	best.print("esxid pack", "")
	images := []string{ours}
	for i, peer := range peers {
		out := filepath.Join(dir, peer[0]+".gz")
		u, err := measure(ctx, out, peer[0], peer[1:]...)
		if err != nil {
			return err
		}
		if err := u.measureSize(out); err != nil {
			return err
		}
		aim := ""
		if i == 0 {
			aim = "; aim: 40 times, 2 %, under 128 MiB"
		}
		u.print(peer[0]+" "+peer[1], fmt.Sprintf("   esxid is %.1f times as fast, its image %+.1f %%%s",
			u.Wall.Seconds()/best.Wall.Seconds(), 100*(float64(best.Size)/float64(u.Size)-1), aim))
		images = append(images, out)
	}
	if !o.unpack {
		return nil
	}
	fmt.Println("unpacking, as a deployment does (gzip -dc)")
	for _, image := range images {
		u, err := measure(ctx, os.DevNull, "gzip", "-dc", image)
		if err != nil {
			return err
		}
		u.print(filepath.Base(image), "")
	}
	return nil
}

// reportSteps measures what a build does outside of the virtual machine.
func reportSteps(ctx context.Context, o options, self, dir string) error {
	var best report
	for range o.rounds {
		out := filepath.Join(dir, "steps.json")
		u, err := measure(ctx, out, self, "steps", dir)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(out)
		if err != nil {
			return err
		}
		var r report
		if err := json.Unmarshal(b, &r); err != nil {
			return err
		}
		r.usage = u
		if best.Steps == nil || r.total() < best.total() {
			best = r
		}
	}
	fmt.Println("what a build does outside of the virtual machine")
	for _, s := range best.Steps {
		fmt.Printf("  %-12s %8.2f s\n", s.Name, s.Seconds)
	}
	fmt.Printf("  %-12s %8.2f s   CPU %.2f s, %d MiB resident   (aim: under 5 s)\n", "all", best.total(), best.CPU.Seconds(), best.RSS>>20)
	return nil
}
