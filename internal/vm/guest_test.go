package vm

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A guest is a program for 16-bit real mode that fits a CD's boot image: what
// an installer does as far as this package can see.
type guest struct {
	code  []byte
	texts []text
}

// text is a string that the code at an offset refers to.
type text struct {
	at   int
	data string
}

const (
	bootAddress   = 0x7c00
	bootImageSize = 2048
)

func newGuest() *guest {
	return new(guest).emit(
		0x31, 0xc0, // xor ax, ax
		0x8e, 0xd8, // mov ds, ax
		0x8e, 0xc0, // mov es, ax
		0xfc) //       cld
}

func (g *guest) emit(code ...byte) *guest {
	g.code = append(g.code, code...)
	return g
}

// print writes a text to the first serial port.
func (g *guest) print(s string) *guest {
	g.texts = append(g.texts, text{at: len(g.code) + 1, data: s})
	return g.emit(
		0xbe, 0, 0, //       mov si, text
		0xac,       // next: lodsb
		0x84, 0xc0, //       test al, al
		0x74, 0x12, //       jz end
		0x88, 0xc4, //       mov ah, al
		0xba, 0xfd, 0x03, // mov dx, 0x3fd
		0xec,       // busy: in al, dx
		0xa8, 0x20, //       test al, 0x20   ; transmitter is empty
		0x74, 0xfb, //       jz busy
		0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0x88, 0xe0, //       mov al, ah
		0xee,       //       out dx, al
		0xeb, 0xe9) //       jmp next
	//                 end:
}

// writeDisk writes the boot image's first sector to the disk's, n times.
func (g *guest) writeDisk(n uint16) *guest {
	return g.repeat(n, func() {
		g.emit(
			0xb8, 0x01, 0x03, // mov ax, 0x0301   ; write one sector
			0xbb, 0x00, 0x7c, // mov bx, 0x7c00   ; from here
			0xb9, 0x01, 0x00, // mov cx, 1        ; to cylinder 0, sector 1
			0xba, 0x80, 0x00, // mov dx, 0x80     ; head 0, first disk
			0xcd, 0x13) //       int 0x13
	})
}

// repeat runs body n times. body must leave bp alone.
func (g *guest) repeat(n uint16, body func()) *guest {
	g.emit(0xbd, byte(n), byte(n>>8)) // mov bp, n
	begin := len(g.code)
	body()
	back := begin - len(g.code) - 5
	return g.emit(0x4d, 0x0f, 0x85, byte(back), byte(back>>8)) // dec bp; jnz begin
}

// powerOff sets SLP_EN in the ACPI register PM1a_CNT, which SeaBIOS puts at
// 0x604 on both machines; sleep type 0 is QEMU's soft off.
func (g *guest) powerOff() []byte {
	return g.emit(0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef).hang() // out 0x604, 0x2000
}

// reset pulses the CPU's reset line through the keyboard controller.
func (g *guest) reset() []byte {
	return g.emit(0xb0, 0xfe, 0xe6, 0x64).hang() // out 0x64, 0xfe
}

// hang ends the program with an endless halt.
func (g *guest) hang() []byte {
	g.emit(0xfa, 0xf4, 0xeb, 0xfd) // cli; halt: hlt; jmp halt
	image := g.code
	for _, t := range g.texts {
		binary.LittleEndian.PutUint16(image[t.at:], uint16(bootAddress+len(image)))
		image = append(append(image, t.data...), 0)
	}
	if len(image) > bootImageSize {
		panic("the guest does not fit its boot image")
	}
	return append(image, make([]byte, bootImageSize-len(image))...)
}

// bootCD makes a CD that boots image, and returns its path and size.
func bootCD(t *testing.T, image []byte) (string, int64) {
	t.Helper()
	dir := t.TempDir()
	root, iso := filepath.Join(dir, "root"), filepath.Join(dir, "installer.iso")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "BOOT.BIN"), image, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("xorriso", "-as", "mkisofs", "-quiet", "-o", iso,
		"-b", "BOOT.BIN", "-no-emul-boot", "-boot-load-size", "4", root).CombinedOutput()
	if err != nil {
		t.Fatalf("xorriso: %v\n%s", err, out)
	}
	info, err := os.Stat(iso)
	if err != nil {
		t.Fatal(err)
	}
	return iso, info.Size()
}
