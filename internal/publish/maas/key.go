package maas

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
)

// credential is the systemd credential (systemd.exec(5), LoadCredential=) the
// key is taken from when no file is configured.
const credential = "maas-api-key"

// maxKeyFile bounds the size of a key file in bytes.
const maxKeyFile = 4 << 10

// apiKey is an API key of MAAS: OAuth 1.0 consumer key, token key and token
// secret; the consumer secret is always empty.
type apiKey struct{ consumer, token, secret string }

// keyForm is three parts of printable ASCII. MAAS itself makes letters and
// digits only.
var keyForm = regexp.MustCompile(`^[!-9;-~]+:[!-9;-~]+:[!-9;-~]+$`)

// readKey reads a target's key from its api_key_file, or from the service's credential
// if it has none. Nothing of what is read gets into an error.
func readKey(t config.Target) (apiKey, error) {
	file, isCredential := t.APIKeyFile, t.APIKeyFile == ""
	bad := func(class fault.Class, format string, args ...any) (apiKey, error) {
		err := fmt.Errorf(format, args...)
		if isCredential {
			return apiKey{}, fault.New(class, "the credential %s: %w", credential, err)
		}
		return apiKey{}, fault.New(class, "%s: %w", t.Place("api_key_file"), err)
	}
	if isCredential {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return apiKey{}, noKey()
		}
		file = filepath.Join(dir, credential)
	}
	text, mode, err := config.ReadFile(file, maxKeyFile)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return bad(fault.NotPermitted, "%w: give it to this user or group, e.g. chgrp esxid and chmod 0640", err)
	case errors.Is(err, fs.ErrNotExist) && isCredential:
		return apiKey{}, noKey()
	case err != nil:
		return bad(fault.Config, "%w", err)
	case mode.Perm()&0o007 != 0:
		return bad(fault.Config, "%s is open to every user of this host: chmod 0640 %s, and replace the key in MAAS if the host is shared", file, file)
	}
	line := strings.TrimSpace(string(text))
	if line == "" && isCredential {
		return apiKey{}, noKey() // the unit's default, so that the service starts without one
	}
	if !keyForm.MatchString(line) {
		return bad(fault.Config, "%s does not hold an API key: want one line of three parts joined by colons, as MAAS shows it under API keys in the user's preferences", file)
	}
	parts := strings.Split(line, ":")
	return apiKey{parts[0], parts[1], parts[2]}, nil
}

// noKey is the error of a target that has no key yet. A command that somebody runs has
// no credential, whatever is in the file behind the service's.
func noKey() error {
	if os.Getenv("CREDENTIALS_DIRECTORY") == "" {
		return fault.New(fault.Config, "there is no API key: only the service gets the one in /etc/esxid/maas.key; set api_key_file for this target, or have the service publish: esxid republish BUILD")
	}
	return fault.New(fault.Config, "there is no API key: put it into /etc/esxid/maas.key (root's, mode 0600) and run: systemctl restart esxid; or set api_key_file")
}

// authorization returns the header that signs one request (RFC 5849 3.4.4,
// PLAINTEXT). MAAS refuses a nonce it has seen, so each attempt needs its own.
func (k apiKey) authorization(now time.Time) string {
	return fmt.Sprintf(`OAuth oauth_consumer_key="%s", oauth_token="%s", oauth_signature_method="PLAINTEXT", `+
		`oauth_signature="%s", oauth_timestamp="%d", oauth_nonce="%s", oauth_version="1.0"`,
		escape(k.consumer), escape(k.token), escape("&"+escape(k.secret)), now.Unix(), rand.Text())
}

// escape percent-encodes all but RFC 3986's unreserved characters.
func escape(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}

// redact removes the parts of the key from a text that came from outside.
func (k apiKey) redact(s string) string {
	for _, part := range []string{k.secret, escape(k.secret), k.token, k.consumer} {
		s = strings.ReplaceAll(s, part, "[redacted]")
	}
	return s
}
