// Package tinylinux boots Debian's kernel in QEMU for tests: with a program of
// this module as /init (Find, Kernel.Modules, Build, WriteInitramfs), or to run
// one command as root with real disks, mounts and kernel modules (Run).
//
// Run needs no disk image and no root: the host's own file system, read over
// 9p under a layer in memory, is the machine's. A test that wants to see what
// the kernel's nbd does, or what a deployment's tools do to a real /dev/sda,
// takes a few seconds under TCG:
//
//	r, err := tinylinux.Run(ctx, tinylinux.Machine{
//		Command: []string{"sh", "-c", "mount /dev/sda1 /mnt && ls /mnt"},
//		Disks:   []tinylinux.Disk{{Path: "disk.raw"}},
//	})
//
// There is no udev: device nodes are the kernel's own, without links, and a
// serial number is found in /sys only.
//
// The kernel package is downloaded with apt into $XDG_CACHE_HOME/esxid-test
// the first time.
package tinylinux
