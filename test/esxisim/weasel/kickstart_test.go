package weasel

import (
	"slices"
	"strings"
	"testing"
)

const (
	sha512 = "$6$abcdefgh12345678$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	good   = "vmaccepteula\nrootpw --iscrypted " + sha512 + "\ninstall --firstdisk --overwritevmfs\nnetwork --bootproto=dhcp\n"
)

func TestGoodKickstarts(t *testing.T) {
	for name, text := range map[string]string{
		"minimal":       good,
		"plain":         "accepteula\nrootpw 'Some pass1'\ninstall --disk=mpx.vmhba0:C0:T0:L0 --novmfsondisk\nnetwork --bootproto=static --ip=10.0.0.2 --netmask=255.0.0.0 --gateway=10.0.0.1 --nameserver=\"10.0.0.1,10.0.0.3\" --hostname=h --vlanid=4095 --addvmportgroup=0\n",
		"md5":           strings.Replace(good, sha512, "$1$salt$aaaaaaaaaaaaaaaaaaaaaa", 1),
		"des":           strings.Replace(good, sha512, "aaaaaaaaaaaaa", 1),
		"upgrade":       "upgrade --firstdisk --forcemigrate\n",
		"sections":      good + "reboot --noeject\n%pre --interpreter=busybox\ntrue\n%post --interpreter=busybox --timeout=60 --ignorefailure=true\necho 'not a # quote\n%firstboot --interpreter=python\nimport os\n",
		"unknown":       good + "frobnicate --now\ntimezone UTC\nkeyboard Klingon\ninstall-not\n",
		"serial":        good + "serialnum --esx=AAAAA-BBBBB-CCCCC-11111-22222\nclearpart --firstdisk --overwritevmfs\nkeyboard 'US Default'\n",
		"by mac":        strings.Replace(good, "dhcp", "dhcp --device=52:54:00:12:34:56", 1),
		"8.0":           strings.Replace(good, "--firstdisk", "--firstdisk=vmw_ahci,local --systemDisk=x", 1),
		"end in a body": good + "%post --interpreter=busybox\ntrue\n%end\n",
	} {
		k := Parse(text)
		plan := k.Check()
		var fatal []string
		for _, p := range k.Problems {
			if p.Fatal {
				fatal = append(fatal, p.String())
			}
		}
		if len(fatal) > 0 {
			t.Errorf("%s: %q", name, fatal)
		}
		if plan.Mode == "" {
			t.Errorf("%s: no plan: %+v", name, plan)
		}
	}
}

func TestBadKickstarts(t *testing.T) {
	without := func(word string) string {
		var kept []string
		for line := range strings.Lines(good) {
			if !strings.HasPrefix(line, word) {
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "")
	}
	with := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "one of install, upgrade and installorupgrade"},
		{"no eula", without("vmaccepteula"), "vmaccepteula is missing"},
		{"no password", without("rootpw"), "rootpw is missing"},
		{"no install", without("install"), "one of install"},
		{"two modes", good + "upgrade --firstdisk\n", "one of install"},
		{"install twice", good + "install --firstdisk\n", "line 5: install is repeated"},
		{"weak", with("--iscrypted "+sha512, "password"), "line 2: the password of root is too weak"},
		{"short", with("--iscrypted "+sha512, "Ab1!"), "too weak"},
		{"two passwords", with(sha512, sha512+" more"), "rootpw needs one password"},
		{"rounds", with("$6$", "$6$rounds=5000$"), "no MD5, SHA-512 or DES"},
		{"sha256", with("$6$", "$5$"), "no MD5, SHA-512 or DES"},
		{"no disk", with("--firstdisk ", ""), "needs --disk= or --firstdisk"},
		{"both disks", with("--firstdisk", "--firstdisk --disk=x"), "needs --disk= or --firstdisk"},
		{"disk without value", with("--firstdisk", "--disk="), "--disk needs a value"},
		{"overwrite and preserve", with("--overwritevmfs", "--overwritevmfs --preservevmfs"), "exclude each other"},
		{"ignoressd with disk", with("--firstdisk", "--disk=x --ignoressd"), "--ignoressd is for"},
		{"ignoressd with installorupgrade", with("install --firstdisk", "installorupgrade --firstdisk --ignoressd"), "--ignoressd is for"},
		{"dhcp with ip", with("dhcp", "dhcp --ip=10.0.0.1"), "cannot have --ip"},
		{"static without ip", with("dhcp", "static"), "needs --ip"},
		{"bad proto", with("dhcp", "bootp"), "neither dhcp nor static"},
		{"bad address", with("dhcp", "static --ip=10.0.0"), "no address"},
		{"bad vlan", with("dhcp", "dhcp --vlanid=5000"), "no VLAN"},
		{"bad port group", with("dhcp", "dhcp --addvmportgroup=maybe"), "neither 0 nor 1"},
		{"clearpart without selector", good + "clearpart --overwritevmfs\n", "clearpart needs one of"},
		{"clearpart without install", with("install ", "installorupgrade ") + "clearpart --alldrives\n", "clearpart needs install"},
		{"part without disk", good + "part data\n", "part needs --ondisk="},
		{"upgrade with rootpw", "upgrade --firstdisk\nrootpw x\n", "rootpw cannot be used with upgrade"},
		{"upgrade without disk", "upgrade\n", "upgrade needs one of"},
		{"bad serial", good + "serialnum --esx=AAAAA-BBBBB\n", "five groups"},
		{"open quote", good + "keyboard 'US\n", "line 5: a quote is not closed"},
		{"interpreter", good + "%post --interpreter=perl\n", "neither busybox nor python"},
		{"timeout", good + "%post --interpreter=busybox --timeout=soon\n", "bad --timeout=soon"},
		{"timeout of %pre", good + "%pre --interpreter=busybox --timeout=5\n", "bad --timeout=5"},
		{"ignorefailure", good + "%post --interpreter=busybox --ignorefailure=yes\n", "bad --ignorefailure=yes"},
		{"too many", good + strings.Repeat("keyboard 'US Default'\n", 256), "more than 256"},
		{"paranoid", good + "paranoid\nfrobnicate\n", "error:line 6: unknown command"},
	} {
		k := Parse(c.text)
		k.Check()
		if !slices.ContainsFunc(k.Problems, func(p Problem) bool { return p.Fatal && strings.Contains(p.String(), c.want) }) {
			t.Errorf("%s: %q, want an error with %q", c.name, k.Problems, c.want)
		}
	}
}

// What an operator may not notice: these pass with a warning.
func TestWarnings(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"frobnicate\n", `line 5: unknown command "frobnicate"`},
		{"%end\n", `unknown command "%end"`},
		{" %post\n", `unknown command "%post"`}, // not at the start of the line
		{"timezone UTC\n", "timezone is deprecated"},
		{"keyboard Klingon\n", "unknown keyboard"},
		{"# grün\n", "beyond ASCII"},
		{"%post\n", "no --interpreter"},
		{"%packages\n", "%packages is deprecated"},
		{"network --bootproto=dhcp --hostname=h\n", "--hostname is ignored"},
		{"vmaccepteula --twice\n", "vmaccepteula is repeated"},
		{"reboot --now\n", `unknown argument "--now"`},
	} {
		k := Parse(good + c.text)
		k.Check()
		if k.Fatal() || !slices.ContainsFunc(k.Problems, func(p Problem) bool { return strings.Contains(p.String(), c.want) }) {
			t.Errorf("%q: %q, want a warning with %q", c.text, k.Problems, c.want)
		}
	}
}

func TestPlan(t *testing.T) {
	plan := Parse("vmaccepteula\nrootpw Abcdefg1\nrootpw Hijklmn2\ninstall --firstdisk=usb,local --novmfsondisk\nnetwork --device=vmnic1\nreboot\n").Check()
	if plan.Password != "Hijklmn2" || plan.Crypted || !plan.Target.FirstDisk || !slices.Equal(plan.Target.Filter, []string{"usb", "local"}) ||
		!plan.Target.NoVMFS || plan.NetDevice != "vmnic1" || !plan.Reboot || plan.DryRun {
		t.Errorf("%+v", plan)
	}
}

func TestSectionsLastUntilTheNext(t *testing.T) {
	k := Parse("vmaccepteula\n%pre --interpreter=busybox\na\n\n# b\n%post --interpreter=python --timeout=5 --ignorefailure=true\nc\n%end\n")
	if len(k.Scripts) != 2 || k.Scripts[0].Body != "a\n\n# b\n" || k.Scripts[1].Body != "c\n%end\n" || k.Scripts[1].Interpreter != "python" ||
		!k.Scripts[1].IgnoreFailure || k.Scripts[1].Timeout.Seconds() != 5 || k.Scripts[1].Line != 6 {
		t.Errorf("%+v", k.Scripts)
	}
}

func TestSplit(t *testing.T) {
	for line, want := range map[string][]string{
		"a  b\tc\r":             {"a", "b", "c"},
		`--x="a b" 'c # d' # e`: {"--x=a b", "c # d"},
		`a\ b "c\"d" 'e\f'`:     {"a b", `c"d`, `e\f`},
		`"" # comment`:          {""},
		"   ":                   nil,
	} {
		if got, err := split(line); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v; want %q", line, got, err, want)
		}
	}
}
