// Package firstboot tests what a deployed host becomes: the first-boot agent of
// internal/guest on a simulated ESXi, with a simulated MAAS to report to.
package firstboot
