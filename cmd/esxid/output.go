package main

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// writeJSON prints one indented JSON document.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// writeFields prints the fields of a struct, one "name: value" a line, under the
// names they have in JSON. Embedded structs are printed in place.
func writeFields(w io.Writer, v any) error {
	width := 0
	type field struct{ name, value string }
	var fields []field
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.Anonymous {
				walk(v.Field(i))
				continue
			}
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			width = max(width, len(name))
			fields = append(fields, field{name, printable(fmt.Sprint(v.Field(i).Interface()))})
		}
	}
	walk(reflect.ValueOf(v))
	for _, f := range fields {
		if _, err := fmt.Fprintf(w, "%-*s %s\n", width+1, f.name+":", f.value); err != nil {
			return err
		}
	}
	return nil
}
