package esxcli

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/esxid/esxid/test/esxisim/host"
)

// command is a leaf of the tree of namespaces.
type command struct {
	path    string // "network vswitch standard portgroup set"
	text    string // for the usage text
	options []option
	since   []int // version, {7} is 7.0 and later
	until   []int // the first version without it
	run     func(*call) (output, error)
}

// kind is the type of an option's value.
type kind string

const (
	text   kind = "str"
	number kind = "long"
	truth  kind = "bool"
	flag   kind = ""            // takes no value
	list   kind = "[ str ... ]" // may be repeated
	secret kind = "secret"
)

// option of a command.
type option struct {
	name     string
	short    string // one letter, "" if there is none
	kind     kind
	required bool
	text     string
}

func need(short, name, text1 string) option {
	return option{name: name, short: short, kind: text, required: true, text: text1}
}

func may(short, name string, k kind, text string) option {
	return option{name: name, short: short, kind: k, text: text}
}

// call is a command with its arguments.
type call struct {
	*host.Machine
	stdin  io.Reader
	values map[string][]string
}

func (c *call) has(name string) bool { _, ok := c.values[name]; return ok }

func (c *call) str(name string) string {
	if v := c.values[name]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

// strs are the values of a repeated option, which may also have commas.
func (c *call) strs(name string) []string {
	var all []string
	for _, v := range c.values[name] {
		for s := range strings.SplitSeq(v, ",") {
			if s != "" {
				all = append(all, s)
			}
		}
	}
	return all
}

func (c *call) num(name string) int {
	n, _ := strconv.Atoi(c.str(name)) // parse has checked it
	return n
}

func (c *call) truth(name string) bool { return c.str(name) == "true" }

// refusal is what a command says when it does nothing.
type refusal string

func (r refusal) Error() string { return string(r) }

func refuse(format string, args ...any) error { return refusal(fmt.Sprintf(format, args...)) }

// usageError is a wrong use of a command, answered with its usage text.
type usageError struct {
	text string
	of   *command
}

func (e *usageError) Error() string { return "Error: " + e.text }

// name of an option as errors have it.
func (o option) String() string {
	if o.short == "" {
		return "--" + o.name
	}
	return "-" + o.short + "|--" + o.name
}

// parse reads a command's options: --name=value, --name value, -n value, -n=value.
func (cmd *command) parse(args []string) (map[string][]string, error) {
	values := map[string][]string{}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		name, value, attached := strings.Cut(arg, "=")
		i := slices.IndexFunc(cmd.options, func(o option) bool {
			return name == "--"+o.name || o.short != "" && name == "-"+o.short
		})
		if i < 0 {
			return nil, &usageError{"Invalid option " + name, cmd}
		}
		o := cmd.options[i]
		switch {
		case o.kind == flag && attached:
			return nil, &usageError{fmt.Sprintf("While processing '%s'. Unexpected value '%s'", name, value), cmd}
		case o.kind == flag:
			value = "true"
		case attached:
		case o.kind == secret && (len(args) == 0 || strings.HasPrefix(args[0], "-")):
			value = prompt
		case len(args) == 0:
			return nil, &usageError{fmt.Sprintf("While processing '%s'. Missing value", name), cmd}
		default:
			value, args = args[0], args[1:]
		}
		if err := o.check(name, value, cmd); err != nil {
			return nil, err
		}
		if len(values[o.name]) > 0 && o.kind != list {
			return nil, &usageError{fmt.Sprintf("Option %s was given twice", o), cmd}
		}
		values[o.name] = append(values[o.name], value)
	}
	for _, o := range cmd.options {
		if _, ok := values[o.name]; o.required && !ok {
			return nil, &usageError{"Missing required parameter " + o.String(), cmd}
		}
	}
	return values, nil
}

// prompt stands for a secret that is to be read from the standard input.
const prompt = "\x00"

func (o option) check(name, value string, cmd *command) error {
	var want string
	switch o.kind {
	case number:
		if _, err := strconv.Atoi(value); err != nil {
			want = "integer"
		}
	case truth:
		if value != "true" && value != "false" {
			want = "boolean"
		}
	}
	if want == "" {
		return nil
	}
	return &usageError{fmt.Sprintf("While processing '%s'. Argument type mismatch. Expecting %s value. Got '%s'", name, want, value), cmd}
}

// usage is the help text of a command.
func (cmd *command) usage() string {
	var b strings.Builder
	last := cmd.path[strings.LastIndexByte(cmd.path, ' ')+1:]
	fmt.Fprintf(&b, "\nUsage: esxcli %s [cmd options]\n\nDescription: \n  %-21s %s\n\nCmd options:\n", cmd.path, last, cmd.text)
	for _, o := range cmd.options {
		head := "  " + o.String()
		if o.kind != flag {
			head += "=<" + strings.Replace(string(o.kind), "[ str ... ]", "str", 1) + ">"
		}
		text := o.text
		if o.required {
			text += " (required)"
		}
		if len(head) > 23 {
			fmt.Fprintf(&b, "%s\n%24s%s\n", head, "", text)
		} else {
			fmt.Fprintf(&b, "%-23s %s\n", head, text)
		}
	}
	return b.String()
}
