package journal

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// messages returns the names and ids in messages.go.
func messages(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "messages.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "MessageID" {
			id, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			found[spec.Names[0].Name] = id
		}
		return true
	})
	return found
}

var idForm = regexp.MustCompile(`^[0-9a-f]{32}$`)

// Every event is explained, and nothing else is.
func TestCatalog(t *testing.T) {
	ids := slices.Sorted(maps.Values(messages(t)))
	if len(ids) < 10 || len(slices.Compact(slices.Clone(ids))) != len(ids) {
		t.Errorf("%d ids, not all different: %v", len(ids), ids)
	}
	text, err := os.ReadFile("../../systemd/esxid.catalog")
	if err != nil {
		t.Fatal(err)
	}
	var explained []string
	for _, part := range strings.Split("\n"+string(text), "\n-- ")[1:] {
		id, rest, _ := strings.Cut(part, "\n")
		explained = append(explained, id)
		head, body, _ := strings.Cut(rest, "\n\n")
		for _, want := range []string{"Subject: ", "Defined-By: esxid"} {
			if !strings.Contains(head, want) {
				t.Errorf("%s has no %q", id, want)
			}
		}
		if !idForm.MatchString(id) || strings.TrimSpace(body) == "" {
			t.Errorf("%q is no entry with an id and a text", id)
		}
	}
	slices.Sort(explained)
	if diff := cmp.Diff(ids, explained); diff != "" {
		t.Errorf("messages.go and the catalog (-code +catalog):\n%s", diff)
	}
}
