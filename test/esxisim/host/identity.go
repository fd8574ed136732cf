package host

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"
)

// uuidKey is the line of /etc/vmware/esx.conf with the system's UUID.
const uuidKey = "/system/uuid = "

// ReadUUID makes a new system UUID if it was removed from esx.conf. From 7.0
// Update 2 on it is kept elsewhere, and the file has no say.
func (m *Machine) ReadUUID() error {
	path := m.Path("etc/vmware/esx.conf")
	text, err := os.ReadFile(path)
	if err != nil || m.AtLeast(7, 0, 2) {
		return err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, uuidKey); ok {
			m.State.UUID = strings.Trim(strings.TrimSpace(value), `"`)
			return nil
		}
	}
	m.State.UUID = m.NewUUID()
	return os.WriteFile(path, fmt.Appendf(text, "%s%q\n", uuidKey, m.State.UUID), 0o644)
}

// PlatformUUID is the machine's own, from its firmware.
func (m *Machine) PlatformUUID() string {
	sum := sha256.Sum256([]byte("platform " + m.Hardware.Name))
	return uuidText(sum, m.firstMAC())
}

// patchLevels of known builds; others have 0.
var patchLevels = map[string]int{"8294253": 50, "19193900": 20, "24677879": 70, "25205845": 95}

// UpdateLevel are the numbers of the update and of the patch.
func (m *Machine) UpdateLevel() (update, patch int) {
	digits := strings.TrimRight(strings.TrimPrefix(m.Release.Update, "U"), "abcdefghijklmnopqrstuvwxyz")
	_, err := fmt.Sscan(cmp.Or(digits, "0"), &update)
	if err != nil {
		update = 0 // a release without an update
	}
	return update, patchLevels[m.Release.Build]
}

// Clock is the host's time, which may be wrong.
func (m *Machine) Clock() time.Time {
	return m.Now.Add(time.Duration(m.Runtime.SkewMS) * time.Millisecond)
}

// SetClock changes the host's time, in UTC.
func (m *Machine) SetClock(year, month, day, hour, minute, second int) {
	t := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
	m.Runtime.SkewMS = t.Sub(m.Now).Milliseconds()
}

// Digest is how the state keeps a password.
func Digest(password string) string {
	sum := sha256.Sum256([]byte("password " + password))
	return hex.EncodeToString(sum[:8])
}

// Authenticate reports whether that is an account's password, and returns its
// role. Accounts that came with the image have none that a test knows.
func (s *State) Authenticate(user, password string) (role string, ok bool) {
	u := s.User(user)
	if u == nil || u.Password != Digest(password) {
		return "", false
	}
	return u.Role, true
}
