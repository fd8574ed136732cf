package curtin

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// Write downloads a dd-gz image and writes it to a disk file of the given size
// in curtin's way: without pipefail, so that dd's exit status alone decides. The
// file stays sparse where the image has zeros; what was there before is gone.
func Write(ctx context.Context, url, disk string, size int64, log io.Writer) error {
	if err := os.RemoveAll(disk); err != nil {
		return err
	}
	if err := create(disk, size); err != nil {
		return err
	}
	const pipeline = `wget --no-proxy --progress=dot:giga -O - "$1" | zcat | dd bs=4M conv=sparse,notrunc of="$2"`
	cmd := exec.CommandContext(ctx, "sh", "-c", pipeline, "write_image_to_disk", url, disk)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cannot write the image: %w", err)
	}
	fi, err := os.Stat(disk)
	if err != nil {
		return err
	}
	if fi.Size() > size { // a file grows where a disk ends
		return fmt.Errorf("cannot write the image: no space left on device: it has more than the disk's %d bytes", size)
	}
	return nil
}

// create makes a sparse file.
func create(path string, size int64) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := file.Truncate(size); err != nil {
		return err
	}
	return file.Close()
}
