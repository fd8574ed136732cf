// Package system tests esxid's Debian package as an administrator meets it: it is
// installed with apt on a real Debian 12 in a virtual machine, gets an installer
// ISO, and is looked at with systemctl, journalctl, busctl and the esxid commands;
// and it is killed, upgraded, rebooted, misconfigured and removed. Here systemd's
// jobs, polkit, the sandboxes and the kernel's nbd are the real ones.
//
// The tests have the build tag "system"; make system-test runs them. They tell one
// story, in the order of the list in system_test.go, on one machine: what a check
// needs of an earlier one, it finds again. What the machine said goes to
// build/system-test: transcript.txt has every command with its output, and the
// other files show the service as an administrator sees it.
package system
