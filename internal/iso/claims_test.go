package iso

import (
	"testing"
)

func TestClaimFromName(t *testing.T) {
	tests := []struct{ name, version, update, build string }{
		{"ESXi-8.0U3e-24677879-standard", "8.0.3", "U3e", "24677879"},
		{"ESXI-8.0U3E-24677879-STANDARD", "8.0.3", "U3e", "24677879"},
		{"ESXi-6.7.0-8169922-standard", "6.7.0", "", "8169922"},
		{"ESXI-6.7.0-20190504001-STANDARD", "6.7.0", "", ""},
		{"ESXi-6.5.0U1-5969303", "6.5.0", "U1", "5969303"},
		{"ESXi-6.5U2-8294253", "6.5.0", "U2", "8294253"},
		{"ESXI-9.1.0.0100-25433460-STANDAR", "9.1.0.0100", "", "25433460"},
		{"ESXI-7.0U3G-NUC12-SYN", "7.0.3", "U3g", ""},
		{"DEL-ESXi_803.24280767-A02", "8.0.3", "U3", "24280767"},
		{"Cisco-UCS-Custom-ESXi-70U1-16850804_4.1.2-b", "7.0.1", "U1", "16850804"},
		{"ESXi670-8169922", "6.7.0", "", "8169922"},
		{"ESXi_900.24755229", "9.0.0", "", "24755229"},
		{"HPE-ESXi-7.0-Update3-iso-Gen9plus-703.0.0.10.9.1.5", "7.0.3", "U3", ""},
		{"HPE-Custom-AddOn_703.0.0.11.5.0-6", "", "", ""},
		{"Lenovo_ESXi7.0U3n-21930508_LVO_7.0.0-10.22.2", "7.0.3", "U3n", "21930508"},
		{"ESXi 7.0U3d GA", "7.0.3", "U3d", ""},
		{"VMware ESXi 8.0 Update 3e build-24677879", "8.0.3", "U3e", "24677879"},
		{"VMware-VMvisor-Installer-6.7.0-8169922.x86_64.iso", "6.7.0", "", "8169922"},
		{"VMware-VMvisor-Installer-6.7.0.update03-14320388.x86_64.iso", "6.7.0", "U3", "14320388"},
		{"VMware-VMvisor-Installer-7.0U3d-19482537.x86_64.iso", "7.0.3", "U3d", "19482537"},
		{"VMware-VMvisor-Installer-7.0b-16324942.x86_64.iso", "7.0", "b", "16324942"},
		{"VMware-VMvisor-Installer-9.0.0.0.24755229.x86_64.iso", "9.0.0.0", "", "24755229"},
		{"VMware-VMvisor-Installer-8.0.0.update03-24280767.x86_64-Dell_Customized-A02.iso", "8.0.3", "U3", "24280767"},
		{"VMware-ESXi-7.0u3o-22348816-HPE-703.0.0.11.5.0.6-Jan2024.iso", "7.0.3", "U3o", "22348816"},
		{"VMware-ESXi-7.0.1.-16850804-LNV-20200917.iso", "7.0.1", "U1", "16850804"},
		{"VMware-ESXi-7.0.3d-19482537-Custom-Cisco-4.2.2-a.iso", "7.0.3", "U3d", "19482537"},
		{"VMware-ESXi-8.0.3-20240917-lab.iso", "8.0.3", "U3", ""},
		{"ESXi-8.0", "8.0", "", ""},
		{"ESXi-v70-Lab", "", "", ""},
		{"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08.iso", "", "", ""},
		{"esxi.iso", "", "", ""},
		{"debian-12.5.0-amd64-netinst.iso", "", "", ""},
		{"", "", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := claim{source: "x", version: tt.version, update: tt.update, build: tt.build}
			if got := claimFromName("x", tt.name); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

func TestClaimFromBuild(t *testing.T) {
	tests := []struct{ value, version, build string }{
		{"", "", ""},
		{"6.7.0-0.0.8169922", "6.7.0", "8169922"},
		{"8.0.3-0.35.24280767", "8.0.3", "24280767"},
		{"9.1.1.0-25714478", "9.1.1.0", "25714478"},
		{"24280767", "", "24280767"},
		{"8.0.3-1234567.24280767", "8.0.3", "24280767"},
		{"8.0.3", "8.0.3", ""},
		{"nonsense", "", ""},
	}
	for _, tt := range tests {
		want := claim{source: "x", version: tt.version, build: tt.build}
		if got := claimFromBuild("x", tt.value); got != want {
			t.Errorf("%q: %+v, want %+v", tt.value, got, want)
		}
	}
}

func TestUpdateLevel(t *testing.T) {
	name := func(s string) claim { return claimFromName("x", s) }
	tests := []struct {
		version string
		claims  []claim
		want    string
	}{
		{"8.0.3", nil, "U3"},
		{"8.0.3", []claim{name("DEL-ESXi_803.24280767-A02"), name("ESXi-8.0U3e")}, "U3"},
		{"8.0.3", []claim{name("lab"), name("ESXi-8.0U3e")}, "U3e"},
		{"8.0.3", []claim{name("ESXi-8.0U2b")}, "U3"},
		{"7.0.0", []claim{name("ESXi-7.0b-16324942")}, "b"},
		{"7.0.0", []claim{name("ESXi-7.0U1")}, ""},
		{"6.7.0", []claim{name("ESXi-6.7.0-20190802001-standard"), name("ESXi-6.7.0.update03-14320388")}, "U3"},
		{"6.7.0", []claim{name("ESXi-6.5.0.update03-14320388")}, ""},
		{"9.0.1.0", []claim{name("ESXi-9.0.1.0")}, ""},
		{"10.0.1", []claim{name("ESXi-10.0.1a")}, ""},
	}
	for _, tt := range tests {
		if got := updateLevel(tt.version, tt.claims); got != tt.want {
			t.Errorf("%s with %+v: %q, want %q", tt.version, tt.claims, got, tt.want)
		}
	}
}

func TestVendor(t *testing.T) {
	for profile, want := range map[string]string{
		"del-esxi_803.24280767-a02":                   "dell",
		"dellemc-esxi-7.0u3-19193900-a01":             "dell",
		"hpe-custom-addon_703.0.0.11.5.0-6":           "hpe",
		"hp-esxi-6.5.0-ou1":                           "hpe",
		"cisco-ucs-custom-esxi-70u1-16850804_4.1.2-b": "cisco",
		"lnv-esxi-7.0.1-16850804":                     "lenovo",
		"lenovo_esxi7.0u3n-21930508_lvo_7.0.0":        "lenovo",
		"vmware-esxi-7.0.3-fujitsu-v530-1":            "fujitsu",
		"esxi-7.0u3g-nuc12-syn":                       "custom",
		"model-delta-hpex":                            "custom",
	} {
		if got := vendor(profile); got != want {
			t.Errorf("%s: %q, want %q", profile, got, want)
		}
	}
}

func FuzzClaim(f *testing.F) {
	for _, fx := range fixtures {
		f.Add(fx.profile)
		f.Add(fx.file)
		f.Add(fx.bootBuild)
	}
	f.Fuzz(func(t *testing.T, name string) {
		for _, c := range []claim{claimFromName("x", name), claimFromBuild("x", name)} {
			if c.build != "" && !buildText.MatchString(c.build) {
				t.Errorf("%q has the build %q", name, c.build)
			}
			if numbers(c.version) > 2 && !versionText.MatchString(c.version) {
				t.Errorf("%q has the version %q", name, c.version)
			}
		}
	})
}

func FuzzXML(f *testing.F) {
	f.Add([]byte(`<?xml version='1.0' encoding='us-ascii'?><vum><product><build>24677879</build><esxVersion>8.0.3</esxVersion></product></vum>`))
	f.Add([]byte(`<!DOCTYPE a [<!ENTITY b "c">]><build a="b"><![CDATA[x]]>&lt;</build>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		texts, err := xmlTexts(data, element{name: "esxVersion"}, element{"product", "build"})
		if err == nil && len(texts) != 2 {
			t.Errorf("%d texts", len(texts))
		}
	})
}
