// Package esxisim makes installer ISOs and installed disks that stand in for
// VMware ESXi's, which can be neither shipped nor downloaded by a test.
//
// An ISO of BuildISO has a real one's layout, file names, boot.cfg and
// metadata for the chosen version, plain ISO 9660 with two El Torito entries,
// and boots with BIOS and UEFI. There are two things in it that no real one
// has: ISOLINUX.CFG starts k.b00 and weaselin.v00 as Linux and its initramfs
// instead of going through VMware's loader, and ISOLINUX 6's own LDLINUX.C32
// is there. The initramfs holds the installer of test/esxisim/installer and
// test/esxisim/weasel, which reads boot.cfg from the CD, finds and checks the
// kickstart, partitions the disk, and fails, the way the real one does as far
// as it can be seen from outside.
//
// WriteDisk makes the disk of such an installation without a virtual machine,
// with the same code.
package esxisim
