package esxcli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// output is what a command prints: one of a table, objects, or a line. The zero
// value prints nothing.
type output struct {
	columns []string // a table's; ">" in front of those that are set to the right
	rows    [][]any

	objects []object
	list    bool // the objects are a list, even if it is empty or has one

	line string
}

// object is a block of "Key: Value" lines, with a title unless it is alone.
type object struct {
	title  string
	fields []field
	json   []field // further ones, in JSON only
}

// field has a value of type string, int, int64, bool, []string, or []field for
// a block of its own.
type field struct {
	key   string
	value any
}

func table(columns ...string) output { return output{columns: columns} }

func (o *output) add(row ...any) { o.rows = append(o.rows, row) }

func one(fields ...field) output { return output{objects: []object{{fields: fields}}} }

func plain(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []string:
		return strings.Join(v, ", ")
	}
	return fmt.Sprint(v)
}

// text is the default format. Up to 6.7 the dashes below the last column are as
// long as its longest value; later they are as long as its name if it is a text.
func (o output) text(shortLast bool) string {
	switch {
	case o.columns != nil:
		return o.tableText(shortLast)
	case o.line != "":
		return o.line + "\n"
	}
	var b strings.Builder
	for i, obj := range o.objects {
		if i > 0 {
			b.WriteString("\n")
		}
		if obj.title != "" {
			b.WriteString(obj.title + "\n")
		}
		writeFields(&b, obj.fields, "   ")
	}
	return b.String()
}

func writeFields(b *strings.Builder, fields []field, indent string) {
	for _, f := range fields {
		if block, ok := f.value.([]field); ok {
			fmt.Fprintf(b, "%s%s: \n", indent, f.key)
			writeFields(b, block, indent+"      ")
			continue
		}
		fmt.Fprintf(b, "%s%s: %s\n", indent, f.key, plain(f.value))
	}
}

func (o output) tableText(shortLast bool) string {
	last := len(o.columns) - 1
	widths := make([]int, len(o.columns))
	for i, name := range o.columns {
		widths[i] = len(strings.TrimPrefix(name, ">"))
		if i == last && shortLast && !strings.HasPrefix(name, ">") {
			continue
		}
		for _, row := range o.rows {
			widths[i] = max(widths[i], len(plain(row[i])))
		}
	}
	var b strings.Builder
	line := func(cell func(i int) string) {
		for i, name := range o.columns {
			switch {
			case strings.HasPrefix(name, ">"):
				fmt.Fprintf(&b, "%*s", widths[i], cell(i))
			case i == last:
				b.WriteString(cell(i))
			default:
				fmt.Fprintf(&b, "%-*s", widths[i], cell(i))
			}
			if i < last {
				b.WriteString("  ")
			}
		}
		b.WriteString("\n")
	}
	line(func(i int) string { return strings.TrimPrefix(o.columns[i], ">") })
	line(func(i int) string { return strings.Repeat("-", widths[i]) })
	for _, row := range o.rows {
		line(func(i int) string { return plain(row[i]) })
	}
	return b.String()
}

// json is the format of --formatter=json: keys without blanks, sorted.
func (o output) json() string {
	var all []string
	switch {
	case o.columns != nil:
		for _, row := range o.rows {
			var fields []field
			for i, name := range o.columns {
				fields = append(fields, field{strings.TrimPrefix(name, ">"), row[i]})
			}
			all = append(all, jsonFields(fields))
		}
	case o.line != "":
		return quote(o.line)
	case !o.list && len(o.objects) == 1:
		return jsonFields(slices.Concat(o.objects[0].fields, o.objects[0].json))
	default:
		for _, obj := range o.objects {
			all = append(all, jsonFields(slices.Concat(obj.fields, obj.json)))
		}
	}
	return "[" + strings.Join(all, ", ") + "]"
}

func jsonFields(fields []field) string {
	var members []string
	for _, f := range fields {
		members = append(members, quote(jsonKey(f.key))+": "+jsonValue(f.value))
	}
	slices.Sort(members)
	return "{" + strings.Join(members, ", ") + "}"
}

func jsonKey(key string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return r
		}
		return -1
	}, key)
}

func jsonValue(v any) string {
	switch v := v.(type) {
	case []field:
		return jsonFields(v)
	case []string:
		var all []string
		for _, s := range v {
			all = append(all, quote(s))
		}
		return "[" + strings.Join(all, ", ") + "]"
	case string:
		return quote(v)
	}
	return fmt.Sprint(v)
}

// quote is a JSON string with "/" escaped, as esxcli does it.
func quote(s string) string { return strings.ReplaceAll(strconv.QuoteToASCII(s), "/", `\/`) }
