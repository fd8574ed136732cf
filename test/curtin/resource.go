package curtin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

// Resource returns a boot resource as MAAS's API describes it.
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
