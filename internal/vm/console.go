package vm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
)

const (
	maxLine     = 4 << 10  // bytes of one line; longer ones are cut in pieces
	consoleHead = 16 << 20 // bytes kept from the beginning of the serial port's output
	consoleTail = 1 << 20  // bytes kept from its end, at least
)

// splitter cuts a stream of bytes into lines. A line ends with \n or \r (text
// interfaces redraw a line with \r alone), or at maxLine, and then after a blank
// if there is one in its second half, so that words stay whole.
type splitter struct{ buf []byte }

// feed calls line for each line that chunk completes, with its end mark. The
// bytes are valid during the call only; all lines together are the input.
func (s *splitter) feed(chunk []byte, line func([]byte)) {
	s.buf = append(s.buf, chunk...)
	rest := s.buf
	for {
		n := bytes.IndexAny(rest, "\r\n") + 1
		if n == 0 && len(rest) < maxLine {
			break
		}
		if n == 0 || n > maxLine {
			n = maxLine
			if blank := bytes.LastIndexByte(rest[maxLine/2:maxLine], ' '); blank >= 0 {
				n = maxLine/2 + blank + 1
			}
		}
		line(rest[:n])
		rest = rest[n:]
	}
	s.buf = append(s.buf[:0], rest...)
}

// flush hands out what is left of an unfinished line.
func (s *splitter) flush(line func([]byte)) {
	if len(s.buf) > 0 {
		line(s.buf)
		s.buf = s.buf[:0]
	}
}

// secrets are what an installer's log may hold of a kickstart, which the ESXi
// installer logs while it parses it: crypt(3) hashes, rootpw's argument and the
// licence key of serialnum.
var (
	hashForm   = regexp.MustCompile(`\$(?:[1-9][a-z]?|y|gy|sha1|md5)\$[!-~]*`)
	rootpwForm = regexp.MustCompile(`((?:^|\))[ \t]*rootpw[ \t]+(?:--[a-z]+[ \t]+)*)[^-\s][^\r\n]*`)
	serialForm = regexp.MustCompile(`(--esx=)\S+`)
)

// redacted returns line without passwords and licence keys; other bytes stay as
// they are.
func redacted(line []byte) []byte {
	if bytes.Contains(line, []byte("rootpw")) {
		line = rootpwForm.ReplaceAll(line, []byte("${1}[removed]"))
	}
	if bytes.Contains(line, []byte("--esx=")) {
		line = serialForm.ReplaceAll(line, []byte("${1}[removed]"))
	}
	if bytes.IndexByte(line, '$') >= 0 {
		line = hashForm.ReplaceAll(line, []byte("[removed]"))
	}
	return line
}

// console is the file with the guest's serial output. Of more than it may hold,
// the beginning and the end are kept.
type console struct {
	file *os.File
	size int64  // written to file so far
	tail []byte // what came after consoleHead
	cut  int64  // bytes dropped between file and tail
	err  error  // the first failed write
}

func createConsole(path string) (*console, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot create the console log: %w", err)
	}
	return &console{file: f}, nil
}

// write adds a line. An error is kept for close: a full disk is no reason to
// stop following the guest.
func (c *console) write(line []byte) {
	if c.size+int64(len(line)) <= consoleHead && c.tail == nil {
		n, err := c.file.Write(line)
		c.size += int64(n)
		if c.err == nil {
			c.err = err
		}
		return
	}
	c.tail = append(c.tail, line...)
	if len(c.tail) > 2*consoleTail {
		over := len(c.tail) - consoleTail
		c.cut += int64(over)
		c.tail = append(c.tail[:0], c.tail[over:]...)
	}
}

func (c *console) close() error {
	if c.cut > 0 {
		_, err := fmt.Fprintf(c.file, "\n[esxid: %d bytes left out]\n", c.cut)
		c.err = errors.Join(c.err, err)
	}
	_, err := c.file.Write(c.tail)
	if err := errors.Join(c.err, err, c.file.Close()); err != nil {
		return fmt.Errorf("cannot write the console log: %w", err)
	}
	return nil
}
