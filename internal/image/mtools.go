package image

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/esxid/esxid/internal/command"
	"golang.org/x/sys/unix"
)

// mtools runs programs of GNU mtools on a FAT file system inside image.
type mtools struct {
	image  *os.File
	offset int64
}

// run runs one of them with its drive option, which all of them share. The
// image is handed over as a file, so its path may be anything.
func (m mtools) run(ctx context.Context, stdin []byte, name string, args ...string) error {
	p, err := command.Start(ctx, command.Cmd{
		Name:  name,
		Args:  append([]string{"-i", fmt.Sprintf("/proc/self/fd/3@@%d", m.offset)}, args...),
		Stdin: bytes.NewReader(stdin),
		Env: []string{
			"SOURCE_DATE_EPOCH=315532800", "TZ=UTC", // 1980-01-01, where FAT's time begins: the same bytes on every run
			"MTOOLS_SKIP_CHECK=1", // for disks whose geometry does not add up, as on most
			"MTOOLS_NO_VFAT=0", "MTOOLS_LOWER_CASE=0", "MTOOLS_NAME_NUMERIC_TAIL=1",
		},
		ExtraFiles: []*os.File{m.image},
	})
	if err != nil {
		return err
	}
	err = p.Wait()
	// The image has holes, so writing to it can fill the disk. mtools says so, and
	// then fails for other reasons or not at all.
	if strings.Contains(p.Stderr(), "No space left on device") {
		return fmt.Errorf("%s: %w", name, unix.ENOSPC)
	}
	return err
}
