package build

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// WantSpace is what the build of a large OEM ISO may need on the disk, in bytes: the
// installed disk, which is sparse, and the packed image.
const WantSpace = 8 << 30

// FreeSpace is what may still be written to the file system of dir, in bytes.
func FreeSpace(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("cannot find out how much space is free for %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}
