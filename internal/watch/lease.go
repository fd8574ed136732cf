package watch

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// use is what can be learned about writers of a file from outside.
type use int

const (
	unknown use = iota
	unused      // nobody has it open for writing
	busy        // somebody has it open for writing
)

// writers asks for a read lease on a regular file, which the kernel refuses
// with EAGAIN while the file is open for writing (fcntl(2), F_SETLEASE), and
// gives it back at once. Should a writer open the file in between, its open(2)
// waits for these microseconds, and Go ignores the SIGIO that tells of it.
//
// The error says why the file cannot be read at all.
func writers(path string) (use, error) {
	// O_NONBLOCK: what was a regular file a moment ago may be a FIFO now.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return unknown, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if leasesMeanDelegations(fd) {
		return unknown, nil
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	switch {
	case err == nil:
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK) // close gives it back too
		return unused, nil
	case errors.Is(err, unix.EAGAIN):
		return busy, nil
	}
	return unknown, nil // EACCES: a foreign file; EINVAL: no leases here
}

// leasesMeanDelegations says whether the file is on a network file system.
// These grant a lease only if the server happens to have delegated the file,
// and answer EAGAIN otherwise, writer or not.
func leasesMeanDelegations(fd int) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return true
	}
	switch uint32(st.Type) {
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC,
		unix.CEPH_SUPER_MAGIC, unix.AFS_SUPER_MAGIC, unix.CODA_SUPER_MAGIC, unix.V9FS_MAGIC, unix.FUSE_SUPER_MAGIC:
		return true
	}
	return false
}
