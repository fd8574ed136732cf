package maassim

import (
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// form is a valid request to create a boot resource.
type form struct {
	name, architecture, sha, title, base string
	filetype, filename                   string
	size                                 int64
	keepOld                              bool
}

// fileTypes maps the filetype parameter to what is stored.
var fileTypes = map[string]string{
	"tgz": "root-tgz", "tbz": "root-tbz", "txz": "root-txz",
	"ddtgz": "root-dd", "ddtbz": "root-dd.tar.bz2", "ddtxz": "root-dd.tar.xz", "ddtar": "root-dd.tar",
	"ddbz2": "root-dd.bz2", "ddgz": "root-dd.gz", "ddxz": "root-dd.xz", "ddraw": "root-dd.raw",
}

// systems are the OS drivers MAAS registers.
var systems = []string{"bootloader", "centos", "custom", "esxi", "ol", "onie", "rhel", "suse", "ubuntu", "ubuntu-core", "windows"}

var centosName = regexp.MustCompile(`^centos\d\d?$`)

// fieldErrors is MAAS's body of an invalid form: field to messages.
type fieldErrors map[string][]string

func (e fieldErrors) add(field, format string, args ...any) {
	e[field] = append(e[field], fmt.Sprintf(format, args...))
}

const required = "This field is required."

// parseForm reads the parameters of a POST in the encodings MAAS takes.
func parseForm(r *http.Request) (url.Values, error) {
	r.Body = http.MaxBytesReader(nil, r.Body, maxBody)
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return nil, err
	}
	switch kind {
	case "multipart/form-data":
		err = r.ParseMultipartForm(maxBody)
	case "application/x-www-form-urlencoded":
		err = r.ParseForm()
	default:
		err = fmt.Errorf("content type %s", kind)
	}
	return r.PostForm, err
}

// validate applies the rules of MAAS's BootResourceForm. serverError is the
// text of an exception the form does not catch.
func (s *Sim) validate(v url.Values) (f form, errs fieldErrors, serverError string) {
	errs = fieldErrors{}
	f = form{
		name: v.Get("name"), architecture: v.Get("architecture"), sha: v.Get("sha256"),
		title: v.Get("title"), base: v.Get("base_image"),
	}
	if strings.Count(f.name, "/") > 1 {
		return f, nil, "too many values to unpack (expected 2)"
	}
	s.checkName(f.name, errs)

	filetype := v.Get("filetype")
	if filetype == "" {
		filetype = "tgz"
	}
	if f.filetype = fileTypes[filetype]; f.filetype == "" {
		errs.add("filetype", "Select a valid choice. %s is not one of the available choices.", filetype)
	}
	f.filename = f.filetype
	if tail, isTar := strings.CutPrefix(f.filetype, "root-t"); isTar && s.gen.percent {
		f.filename = "root.t" + tail
	}

	usable := s.opts.Architectures
	if s.faults.lasting[noUbuntu] {
		usable = nil
	}
	switch {
	case f.architecture == "":
		errs.add("architecture", required)
	case !slices.Contains(usable, f.architecture):
		choices := "''"
		if len(usable) > 0 {
			choices = "'" + strings.Join(usable, "', '") + "'"
		}
		errs.add("architecture", "'%s' is not a valid architecture.  It should be one of: %s.", f.architecture, choices)
	}

	switch n := len(f.sha); {
	case n == 0:
		errs.add("sha256", required)
	case n < 64:
		errs.add("sha256", "Ensure this value has at least 64 characters (it has %d).", n)
	case n > 64:
		errs.add("sha256", "Ensure this value has at most 64 characters (it has %d).", n)
	}
	size, err := strconv.ParseInt(v.Get("size"), 10, 64)
	switch {
	case v.Get("size") == "":
		errs.add("size", required)
	case err != nil:
		errs.add("size", "Enter a whole number.")
	}
	f.size = size
	f.keepOld = !slices.Contains([]string{"", "false", "False", "0"}, v.Get("keep_old"))
	return f, errs, ""
}

func (s *Sim) checkName(name string, errs fieldErrors) {
	system, _, hasRelease := strings.Cut(name, "/")
	switch {
	case name == "":
		errs.add("name", required)
	case len(name) > 255:
		errs.add("name", "Ensure this value has at most 255 characters (it has %d).", len(name))
	case hasRelease && !slices.Contains(systems, system):
		errs.add("name", "Unsupport operating system %s, supported operating systems: ['%s']", system, strings.Join(systems, "', '"))
	case slices.Contains(systems, name), centosName.MatchString(name), slices.Contains(s.opts.Reserved, name), s.faults.lasting[reservedName]:
		errs.add("name", "%s is a reserved name", name)
	}
}
