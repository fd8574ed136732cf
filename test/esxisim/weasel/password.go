package weasel

import (
	"regexp"
	"strings"
	"unicode"
)

// cryptForms are the password hashes the installer takes: MD5, SHA-512 without
// a number of rounds, DES.
var cryptForms = []*regexp.Regexp{
	regexp.MustCompile(`^\$1\$[./0-9A-Za-z]{1,8}\$[./0-9A-Za-z]{22}$`),
	regexp.MustCompile(`^\$6\$[./0-9A-Za-z]{1,16}\$[./0-9A-Za-z]{86}$`),
	regexp.MustCompile(`^[./0-9A-Za-z]{13}$`),
}

func (c *checker) rootpw(command Command, o options) {
	if len(o.plain) != 1 || o.plain[0] == "" {
		c.fail(command.Line, "rootpw needs one password")
		return
	}
	c.plan.Password, c.plan.Crypted = o.plain[0], o.has("--iscrypted")
	if !c.plan.Crypted {
		if !strongEnough(c.plan.Password) {
			c.fail(command.Line, "the password of root is too weak: it needs 8 characters of 3 classes")
		}
		return
	}
	for _, form := range cryptForms {
		if form.MatchString(c.plan.Password) {
			return
		}
	}
	c.fail(command.Line, "rootpw --iscrypted: this is no MD5, SHA-512 or DES crypt")
}

// strongEnough is the quality check for a plain password.
func strongEnough(password string) bool {
	classes := 0
	for _, class := range []func(rune) bool{
		unicode.IsLower, unicode.IsUpper, unicode.IsDigit,
		func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) },
	} {
		if strings.ContainsFunc(password, class) {
			classes++
		}
	}
	return len(password) >= 8 && classes >= 3
}
