package curtin

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// resource is a boot resource in MAAS's API.
type resource struct {
	ID                 int
	Name, Architecture string
	Sets               map[string]set
}

type set struct {
	Version  string
	Complete bool
	Files    map[string]struct {
		Filename       string
		FilenameOnDisk string `json:"filename_on_disk"` // from MAAS 3.5
	}
}

// Locate asks MAAS's API for an image by name ("esxi/8.0") and returns the
// address a deployment downloads it from. base is the address of MAAS
// ("http://host:5240/MAAS") and key an API key; the images are taken to be on
// the same host and port, as on the stand-in.
func Locate(ctx context.Context, base, key, name string) (string, error) {
	u, err := url.Parse(strings.TrimSuffix(base, "/"))
	if err != nil {
		return "", err
	}
	system, release, ok := strings.Cut(name, "/")
	if !ok {
		return "", fmt.Errorf("%q is not a name like esxi/8.0", name)
	}
	detail, err := Resource(ctx, base, key, name)
	if err != nil {
		return "", err
	}
	var r resource
	if err := json.Unmarshal(detail, &r); err != nil {
		return "", fmt.Errorf("cannot read MAAS's answer: %w", err)
	}
	newest, err := r.newestComplete()
	if err != nil {
		return "", err
	}
	for _, f := range newest.Files {
		return u.ResolveReference(&url.URL{Path: "/images/"}).JoinPath(f.FilenameOnDisk, system, r.Architecture, release,
			"uploaded", f.Filename).String(), nil
	}
	return "", fmt.Errorf("the newest set of %s in MAAS has no file", name)
}

// Resource returns what MAAS's API tells of the boot resource of that name.
func Resource(ctx context.Context, base, key, name string) (json.RawMessage, error) {
	u, err := url.Parse(strings.TrimSuffix(base, "/"))
	if err != nil {
		return nil, err
	}
	var list []resource
	if err := get(ctx, u.JoinPath("api/2.0/boot-resources/").String()+"?type=uploaded", key, &list); err != nil {
		return nil, err
	}
	for _, r := range list {
		if r.Name == name {
			var detail json.RawMessage
			err := get(ctx, u.JoinPath("api/2.0/boot-resources", fmt.Sprint(r.ID)).String()+"/", key, &detail)
			return detail, err
		}
	}
	return nil, fmt.Errorf("MAAS has no boot resource %s", name)
}

// newestComplete is the set a deployment uses.
func (r resource) newestComplete() (set, error) {
	var newest set
	for _, s := range r.Sets {
		if s.Complete && newer(s.Version, newest.Version) {
			newest = s
		}
	}
	if newest.Version == "" {
		return set{}, fmt.Errorf("MAAS has no complete image of %s", r.Name)
	}
	return newest, nil
}

// newer compares versions of sets: dates, from the second on with a number,
// "20261122", "20261122.1".
func newer(a, b string) bool {
	dateA, numberA, _ := strings.Cut(a, ".")
	dateB, numberB, _ := strings.Cut(b, ".")
	if dateA != dateB {
		return dateA > dateB
	}
	return len(numberA) > len(numberB) || len(numberA) == len(numberB) && numberA > numberB
}

// get fetches JSON with an OAuth 1.0 PLAINTEXT signature.
func get(ctx context.Context, address, key string, into any) error {
	part := strings.Split(strings.TrimSpace(key), ":")
	if len(part) != 3 {
		return errors.New("the API key is not consumer:token:secret")
	}
	r, err := http.NewRequestWithContext(ctx, "GET", address, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", fmt.Sprintf(`OAuth oauth_consumer_key="%s", oauth_token="%s", oauth_signature_method="PLAINTEXT", `+
		`oauth_signature="%%26%s", oauth_timestamp="%d", oauth_nonce="%s", oauth_version="1.0"`,
		part[0], part[1], part[2], time.Now().Unix(), rand.Text()))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", address, resp.Status)
	}
	return json.NewDecoder(io.LimitReader(resp.Body, 8<<20)).Decode(into)
}
