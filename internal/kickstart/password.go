package kickstart

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"

	"github.com/go-crypt/crypt/algorithm/shacrypt"

	"github.com/esxid/esxid/internal/fault"
)

// Hashes the installer takes behind --iscrypted: MD5 and SHA-512 crypt, and the
// old DES one. "rounds=" is not understood.
var (
	sha512Hash = regexp.MustCompile(`^\$6\$[./0-9A-Za-z]{1,16}\$[./0-9A-Za-z]{86}$`)
	md5Hash    = regexp.MustCompile(`^\$1\$[./0-9A-Za-z]{1,8}\$[./0-9A-Za-z]{22}$`)
	desHash    = regexp.MustCompile(`^[./0-9A-Za-z]{13}$`)
)

const (
	minPassword = 8  // characters; "more than 7 and less than 40" in the security
	maxPassword = 39 // guides of 6.5 to 8.0
	saltLength  = 16 // the longest that SHA-512 crypt uses
	randomLen   = 20
)

// wellKnown are passwords from the installer's own default file and from
// packer-maas, so they are on the internet.
var wellKnown = []string{"myp@ssw0rd", "password123!"}

// HashPassword returns the SHA-512 crypt hash of plain with a random salt of 16
// characters and the default 5000 rounds: $6$SALT$HASH. It must not be empty or
// contain control characters; the error is of class fault.Input.
func HashPassword(plain []byte) (string, error) {
	if len(plain) == 0 {
		return "", fault.New(fault.Input, "cannot hash the root password: it is empty")
	}
	if bytes.ContainsFunc(plain, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", fault.New(fault.Input, "cannot hash the root password: it contains a line break or another control character; write it on one line")
	}
	hasher, err := shacrypt.New(shacrypt.WithSHA512(), shacrypt.WithIterations(shacrypt.IterationsDefaultOmitted), shacrypt.WithSaltLength(saltLength))
	if err != nil {
		return "", fmt.Errorf("cannot hash the root password: %w", err)
	}
	digest, err := hasher.Hash(string(plain))
	if err != nil {
		return "", fmt.Errorf("cannot hash the root password: %w", err)
	}
	return digest.Encode(), nil
}

// Characters of random passwords: what is easily mistaken for another (0 O, 1 l
// I) is left out, and so are signs that move on other keyboards or need quoting.
const randomAlphabet = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789-.+=_"

// RandomPassword returns 20 random characters (118 bits) of all four classes,
// so that it passes the installer's check.
func RandomPassword() (string, error) {
	size := big.NewInt(int64(len(randomAlphabet)))
	for {
		var b strings.Builder
		for range randomLen {
			n, err := rand.Int(rand.Reader, size)
			if err != nil {
				return "", fmt.Errorf("cannot make a random password: %w", err)
			}
			b.WriteByte(randomAlphabet[n.Int64()])
		}
		if classes(b.String()) == 4 { // about three of four; the loss is half a bit
			return b.String(), nil
		}
	}
}

// weakness says what the installer would have against a plain password, or "".
func weakness(plain string) string {
	switch {
	case slices.Contains(wellKnown, plain):
		return "it is published on the internet"
	case len(plain) < minPassword:
		return fmt.Sprintf("the installer wants at least %d characters", minPassword)
	case len(plain) > maxPassword:
		return fmt.Sprintf("the installer wants at most %d characters", maxPassword)
	case classes(plain) < 3:
		return "the installer wants three of: lower case, upper case, digits, other characters (a capital at the beginning and a digit at the end do not count)"
	}
	return ""
}

// classes counts the kinds of characters in a password as pam_passwdqc does: a
// capital at the beginning and a digit at the end do not count.
func classes(plain string) int {
	var lower, upper, digit, other int
	for i := range len(plain) {
		switch c := plain[i]; {
		case c >= 'a' && c <= 'z':
			lower = 1
		case c >= 'A' && c <= 'Z':
			if i > 0 {
				upper = 1
			}
		case c >= '0' && c <= '9':
			if i < len(plain)-1 {
				digit = 1
			}
		default:
			other = 1
		}
	}
	return lower + upper + digit + other
}

func (l *linter) checkRootpw(s statement) {
	words := s.positional()
	if len(words) == 0 {
		return // reported by arguments
	}
	word := words[0]
	const instead = "set the root password in esxid's configuration and delete this line"
	if !s.has("--iscrypted") {
		switch {
		case strings.HasPrefix(word, "$") && (sha512Hash.MatchString(word) || md5Hash.MatchString(word)):
			l.errorf(s.at, "this is a hash, but rootpw takes it for the password itself; write rootpw --iscrypted, or better: %s", instead)
		case weakness(word) != "":
			l.errorf(s.at, "this root password cannot be used, %s; %s", weakness(word), instead)
		default:
			l.warnf(s.at, "the root password stands here in clear text; %s (esxid replaces it in any case)", instead)
		}
		return
	}
	switch {
	case strings.HasPrefix(word, "$6$rounds="):
		l.errorf(s.at, "the installer does not understand rounds= in a hash; make one without it, for example with openssl passwd -6, or better: %s", instead)
	case !sha512Hash.MatchString(word) && !md5Hash.MatchString(word) && !desHash.MatchString(word):
		l.errorf(s.at, "this is not a complete $6$, $1$ or DES hash; make one with openssl passwd -6, or better: %s", instead)
	case !l.rendered:
		l.notef(s.at, "esxid replaces this line by its own root password; %s", instead)
	}
}
