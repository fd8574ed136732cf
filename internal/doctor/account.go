package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// account is a user whose rights count.
type account struct {
	name, group string
	uid         int
	gids        []int
	self        bool // this process has exactly these rights: the kernel can be asked
	installed   bool // it is the user of an installed service
}

// serviceName is the user the package makes for the service.
const serviceName = "esxid"

// serviceUser is the service's user or, where there is none, the one who asks: a
// service in the foreground, or esxid build, would run as that.
func serviceUser() account {
	self := account{name: strconv.Itoa(os.Geteuid()), group: strconv.Itoa(os.Getegid()), uid: os.Geteuid(), self: true}
	u, err := user.Lookup(serviceName)
	if err != nil {
		if u, err := user.Current(); err == nil {
			self.name = u.Username
		}
		return self
	}
	a := account{name: u.Username, group: serviceName, installed: true}
	a.uid, _ = strconv.Atoi(u.Uid) // numbers on Linux
	a.self = a.uid == os.Geteuid()
	groups, err := u.GroupIds()
	if err != nil {
		groups = []string{u.Gid}
	}
	for _, g := range groups {
		if gid, err := strconv.Atoi(g); err == nil {
			a.gids = append(a.gids, gid)
		}
	}
	return a
}

// with is the account with one more group, if the host has it.
func (a account) with(group string) account {
	g, err := user.LookupGroup(group)
	if err != nil {
		return a
	}
	if gid, err := strconv.Atoi(g.Gid); err == nil {
		a.gids = append(slices.Clone(a.gids), gid)
	}
	a.self = false
	return a
}

// errHidden is why something about a file cannot be known: the user who asks may
// not look where it is.
var errHidden = errors.New("this user may not look there")

// levelOf is the level of what the may functions return.
func levelOf(err error) Level {
	if errors.Is(err, errHidden) {
		return Unknown
	}
	return Problem
}

func (a account) mayRead(path string) error { return a.may(path, unix.R_OK) }

// may says why the account may not use a file or directory in a way (R_OK, W_OK,
// X_OK). For another user than ours it goes by owners and modes; access control
// lists are not looked at.
func (a account) may(path string, mode uint32) error {
	if a.self {
		if err := unix.Faccessat(unix.AT_FDCWD, path, mode, unix.AT_EACCESS); err != nil {
			return fmt.Errorf("the user %s cannot use %s: %w", a.name, path, err)
		}
		return nil
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s: %w", path, errHidden)
	}
	if err != nil {
		return fmt.Errorf("the user %s cannot use %s: %w", a.name, path, err)
	}
	for dir := filepath.Dir(real); ; dir = filepath.Dir(dir) {
		if err := a.allowed(dir, unix.X_OK); err != nil {
			return err
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	return a.allowed(real, mode)
}

// allowed goes by the owner and mode of one file (path_resolution(7)).
func (a account) allowed(path string, mode uint32) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s: %w", path, errHidden)
	}
	if err != nil {
		return fmt.Errorf("the user %s cannot use %s: %w", a.name, path, err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || a.uid == 0 {
		return nil
	}
	has := uint32(info.Mode().Perm())
	switch {
	case int(st.Uid) == a.uid:
		has >>= 6
	case slices.Contains(a.gids, int(st.Gid)):
		has >>= 3
	}
	if has&mode != mode {
		return fmt.Errorf("the user %s cannot use %s: permission denied (its mode is %v, its owner %d:%d)", a.name, path, info.Mode().Perm(), st.Uid, st.Gid)
	}
	return nil
}
