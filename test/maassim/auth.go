package maassim

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxSkew is how far behind MAAS's clock a request may be, in seconds. A
// request from the future is accepted.
const maxSkew = 300

// Key is an OAuth 1.0 credential: an API key of a user or the key of a machine.
type Key struct{ Consumer, Token, Secret string }

// String is the form MAAS shows and takes: consumer:token:secret.
func (k Key) String() string { return k.Consumer + ":" + k.Token + ":" + k.Secret }

func newKey() Key {
	return Key{Consumer: rand.Text()[:18], Token: rand.Text()[:18], Secret: rand.Text() + rand.Text()[:6]}
}

// User is an account with one API key.
type User struct {
	Name     string
	Admin    bool
	Inactive bool
	Revoked  bool
	Key      Key
}

// addDefaultUsers makes the two users on first start, and gives the admin a
// new key if the last one was revoked.
func (s *Sim) addDefaultUsers() {
	for _, u := range []User{{Name: "admin", Admin: true}, {Name: "plain"}} {
		have := s.user(u.Name)
		if have == nil {
			have = &u
			s.db.Users = append(s.db.Users, have)
		}
		if have.Key == (Key{}) || have.Revoked {
			have.Key, have.Revoked = newKey(), false
		}
	}
	admin := s.user("admin")
	admin.Admin = !s.faults.lasting[nonAdmin]
	admin.Inactive = s.faults.lasting[inactiveUser]
}

func (s *Sim) user(name string) *User {
	i := slices.IndexFunc(s.db.Users, func(u *User) bool { return u.Name == name })
	if i < 0 {
		return nil
	}
	return s.db.Users[i]
}

// AdminKey returns the API key of the user "admin".
func (s *Sim) AdminKey() string { return s.key("admin") }

// UserKey returns the API key of the user "plain", who is no admin.
func (s *Sim) UserKey() string { return s.key("plain") }

func (s *Sim) key(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.user(name).Key.String()
}

// Revoke revokes the API key of a user. RenewKey makes a new one.
func (s *Sim) Revoke(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.user(name).Revoked = true
}

// RenewKey gives a user a new API key and returns it.
func (s *Sim) RenewKey(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.user(name)
	u.Key, u.Revoked = newKey(), false
	return u.Key.String()
}

// ahead returns a clock one hour ahead of now.
func ahead(now func() time.Time) func() time.Time {
	return func() time.Time { return now().Add(time.Hour) }
}

// authenticated lets only active users with a valid signature through.
func (s *Sim) authenticated(h func(http.ResponseWriter, *http.Request, *User)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		keys := func(consumer, token string) (secret string, consumerKnown, tokenKnown bool, who any) {
			for _, u := range s.db.Users {
				if u.Key.Consumer != consumer {
					continue
				}
				return u.Key.Secret, true, u.Key.Token == token && !u.Revoked, *u
			}
			return "", false, false, nil
		}
		who, ok := s.verify(w, r, keys)
		if !ok {
			return
		}
		user := who.(User)
		if user.Inactive {
			text(w, http.StatusForbidden, "User is not allowed access to this API.")
			return
		}
		h(w, r, &user)
	}
}

// keyring finds the secret that goes with a consumer and a token.
type keyring func(consumer, token string) (secret string, consumerKnown, tokenKnown bool, who any)

// verify checks an OAuth 1.0 PLAINTEXT header in the order django-piston's
// oauth library does, and answers the request itself when it does not hold.
func (s *Sim) verify(w http.ResponseWriter, r *http.Request, keys keyring) (any, bool) {
	p, ok := oauthParameters(r.Header.Get("Authorization"))
	if !ok {
		text(w, http.StatusUnauthorized, "Forbidden")
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	refuse := func(format string, args ...any) (any, bool) {
		w.Header().Set("WWW-Authenticate", `OAuth realm="OAuth"`)
		text(w, http.StatusUnauthorized, "Authorization Error: "+format, args...)
		return nil, false
	}
	secret, consumerKnown, tokenKnown, who := keys(p["oauth_consumer_key"], p["oauth_token"])
	if !consumerKnown {
		return refuse("Invalid API key.")
	}
	if !tokenKnown {
		return refuse("'Invalid access token: %s'", p["oauth_token"])
	}
	stamp, err := strconv.ParseInt(p["oauth_timestamp"], 10, 64)
	if err != nil {
		text(w, http.StatusBadRequest, "'Bad Request: the parameter oauth_timestamp has an unexpected type'")
		return nil, false
	}
	if now := s.opts.Now().Unix(); now-stamp > maxSkew {
		return refuse("'Expired timestamp: given %d and now %d has a greater difference than threshold %d'", stamp, now, maxSkew)
	}
	nonce := p["oauth_token"] + " " + p["oauth_nonce"]
	if s.nonces[nonce] {
		return refuse("'Nonce already used: %s'", p["oauth_nonce"])
	}
	s.nonces[nonce] = true
	want := "&" + escape(secret)
	if p["oauth_signature_method"] != "PLAINTEXT" || p["oauth_signature"] != want {
		// MAAS does this: for PLAINTEXT the "base string" is the secret itself.
		return refuse("'Invalid signature. Expected signature base string: %s'", want)
	}
	return who, true
}

// oauthParameters splits an Authorization header; ok is false unless all that
// piston insists on is there.
func oauthParameters(header string) (map[string]string, bool) {
	rest, isOAuth := strings.CutPrefix(header, "OAuth ")
	if !isOAuth {
		return nil, false
	}
	p := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		value, err := url.PathUnescape(strings.Trim(value, `"`))
		if err != nil {
			return nil, false
		}
		p[name] = value
	}
	for _, need := range []string{"oauth_consumer_key", "oauth_token", "oauth_signature", "oauth_signature_method", "oauth_timestamp", "oauth_nonce"} {
		if p[need] == "" {
			return nil, false
		}
	}
	if v, given := p["oauth_version"]; given && v != "1.0" {
		return nil, false
	}
	return p, true
}

// escape percent-encodes all but RFC 3986's unreserved characters.
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
