package kickstart

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/go-crypt/crypt/algorithm/shacrypt"

	"github.com/esxid/esxid/internal/fault"
)

// OpenSSL, given our salt, must come to our hash.
func TestHashPasswordLikeOpenSSL(t *testing.T) {
	for _, plain := range []string{"a", "Hello world!", "kQ3.vMware-x", strings.Repeat("long ", 30), "\u00e4\u65e5", "#'\"\\$`"} {
		hash, err := HashPassword([]byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		if !sha512Hash.MatchString(hash) {
			t.Fatalf("%s is not of the form the installer takes", hash)
		}
		salt := strings.Split(hash, "$")[2]
		if len(salt) != saltLength {
			t.Errorf("salt of %d characters", len(salt))
		}
		openssl := exec.Command("openssl", "passwd", "-6", "-salt", salt, "-stdin")
		openssl.Stdin = strings.NewReader(plain + "\n")
		want, err := openssl.Output()
		if err != nil {
			t.Fatal(err)
		}
		if hash != string(bytes.TrimSpace(want)) {
			t.Errorf("%q: got %s, openssl has %s", plain, hash, want)
		}
	}
}

// The vector with the default number of rounds from the specification,
// https://www.akkadia.org/drepper/SHA-crypt.txt.
func TestHashVector(t *testing.T) {
	hasher, err := shacrypt.New(shacrypt.WithSHA512(), shacrypt.WithIterations(shacrypt.IterationsDefaultOmitted))
	if err != nil {
		t.Fatal(err)
	}
	digest, err := hasher.HashWithSalt("Hello world!", []byte("saltstring"))
	const want = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"
	if err != nil || digest.Encode() != want {
		t.Errorf("%v %v", digest, err)
	}
}

func TestHashPasswordSalt(t *testing.T) {
	a, _ := HashPassword([]byte("same"))
	b, _ := HashPassword([]byte("same"))
	if a == b {
		t.Error("the salt is not random")
	}
}

func TestHashPasswordBad(t *testing.T) {
	for _, plain := range []string{"", "secret\n", "sec\x00ret", "sec\tret", "sec\x7fret"} {
		hash, err := HashPassword([]byte(plain))
		if hash != "" || fault.ClassOf(err) != fault.Input {
			t.Errorf("%q: %q %v", plain, hash, err)
		}
		if err != nil && strings.Contains(err.Error(), "sec") {
			t.Errorf("the error repeats the password: %v", err)
		}
	}
}

func TestRandomPassword(t *testing.T) {
	seen := map[string]bool{}
	for range 500 {
		p, err := RandomPassword()
		if err != nil {
			t.Fatal(err)
		}
		if len(p) != 20 || weakness(p) != "" || seen[p] {
			t.Errorf("%q: %s", p, weakness(p))
		}
		seen[p] = true
	}
}

// The candidates of the security guides ("Example ESXi Passwords").
func TestWeakness(t *testing.T) {
	for plain, good := range map[string]bool{
		"xQaTEhb!":                      true,
		"xQaT3#Ab":                      true,
		"Xqat3hi7":                      false,
		"xQaTEhb2":                      false,
		"xQaT3#A":                       false, // seven characters: enough from 7.0 on, too few before
		strings.Repeat("aB.", 13):       true,
		strings.Repeat("aB.", 13) + "c": false,
		"password123!":                  false,
		"myp@ssw0rd":                    false,
		"":                              false,
	} {
		if got := weakness(plain); (got == "") != good {
			t.Errorf("%q: %q", plain, got)
		}
	}
}
