package maas

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/publish"
)

// source is the image while it is uploaded: one open file whose content was
// found to be what was verified.
type source struct {
	f        *os.File
	size     int64
	modified time.Time
}

// openSource opens the image and compares its size and checksum with what was
// verified. buf is working space.
func openSource(ctx context.Context, img publish.Image, buf []byte) (*source, error) {
	// O_NONBLOCK: a FIFO in the image's place must not block.
	f, err := os.OpenFile(img.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fault.New(fault.Input, "cannot open the image: %w", err)
	}
	s := &source{f: f, size: img.Size}
	if err := s.check(ctx, img, buf); err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

func (s *source) close() { s.f.Close() }

func (s *source) check(ctx context.Context, img publish.Image, buf []byte) error {
	info, err := s.f.Stat()
	switch {
	case err != nil:
		return fault.New(fault.Input, "cannot read the image: %w", err)
	case !info.Mode().IsRegular():
		return fault.New(fault.Input, "the image %s is not a regular file", img.Path)
	case info.Size() != img.Size:
		return s.changed()
	}
	s.modified = info.ModTime()
	h := sha256.New()
	for offset := int64(0); offset < s.size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := buf[:min(int64(len(buf)), s.size-offset)]
		if err := s.read(part, offset); err != nil {
			return err
		}
		h.Write(part)
		offset += int64(len(part))
	}
	if hex.EncodeToString(h.Sum(nil)) != img.SHA256 {
		return s.changed()
	}
	return nil
}

// read fills part from offset, and notices when the file is not what it was.
// A change of its links or rights is none of its content.
func (s *source) read(part []byte, offset int64) error {
	info, err := s.f.Stat()
	if err == nil && (info.Size() != s.size || !info.ModTime().Equal(s.modified)) {
		return s.changed()
	}
	if err == nil {
		_, err = s.f.ReadAt(part, offset)
	}
	if errors.Is(err, io.EOF) {
		return s.changed()
	}
	if err != nil {
		return fault.New(fault.Input, "cannot read the image: %w", err)
	}
	return nil
}

func (s *source) changed() error {
	return fault.New(fault.Input, "the image %s was changed after it was verified: restore it or build it again", s.f.Name())
}
