// Package curtin deploys an image to a disk the way MAAS does it with curtin:
// the same download, dd, search for the hook, environment and clean-up, on a
// disk that Linux sees as the SATA, SCSI or NVMe disk of the configuration.
//
// The download and dd run on the host, into a sparse file (Write). All that
// needs a kernel runs in a small virtual machine (Deployment.Run), where
// ephemeral.py does what curtin does after dd. What curtin does is described
// by its public source: commands/block_meta.py, block/__init__.py,
// commands/curthooks.py and util.py of canonical/curtin.
package curtin
