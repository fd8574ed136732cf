// Package debianvm runs a whole Debian 12 in QEMU for tests: systemd, D-Bus,
// polkit and udev are the real ones, and what the package manager does too.
// (For a kernel alone, and in a tenth of the time, there is tinylinux.)
//
//	image, err := debianvm.Find(ctx)
//	m, err := debianvm.Start(ctx, debianvm.Config{Image: image, Dir: dir, Payload: files, Transcript: log})
//	r, err := m.Run(ctx, debianvm.Command{Script: "systemctl is-system-running"})
//
// Commands go through a virtio-serial port to an agent in the machine, so neither
// its network nor a login has to work for that. The machine reaches no network;
// one of its TCP ports can be reached from here.
//
// Under TCG, with the CPU "max", the machine emulates AMD's virtualization: it
// has a /dev/kvm of its own that works, and a machine in the machine costs little
// more than the machine itself.
package debianvm
