// Package host is an installed ESXi made of files: a host that first-boot
// scripts can configure, that refuses what a real one refuses, and that tells
// a test afterwards what became of it.
//
// A host is a directory:
//
//	hardware.json  the machine: NICs, disks, ESXi version; written by the test
//	state.json     what is configured; changed by the tools
//	calls.jsonl    every call of a tool, in order
//	bin/           the PATH: the tools, busybox's applets, python
//	root/          the files of the host: /etc, /altbootbank, /vmfs
//
// The tools (esxcli, partedUtil, vmkfstools, vim-cmd and others) are one
// program, test/esxisim/hosttools, which knows them by the name it is called
// by. Each call holds the host's lock, so that calls are atomic, and a call
// that fails changes nothing.
//
// What the tools print follows real output (testdata of this package's
// neighbours); where none is public, the form is that of similar commands. The
// words of refusals are the simulator's own, except for those by which a real
// one can be recognised.
package host
