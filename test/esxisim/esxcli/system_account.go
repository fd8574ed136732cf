package esxcli

import (
	"bufio"
	"regexp"
	"slices"
	"strings"

	"github.com/esxid/esxid/test/esxisim/host"
)

func accountCommands() []command {
	id := need("i", "id", "The account's name.")
	secrets := []option{
		may("p", "password", secret, "Its password; without a value it is read from the input."),
		may("c", "password-confirmation", secret, "The password again."),
		may("d", "description", text, "What it is for."),
	}
	shell := may("s", "shell-access", truth, "Whether it may use a shell.")
	base := "system account "
	return []command{
		{path: base + "list", text: "List the local accounts.", run: func(c *call) (output, error) {
			o := table("User ID", "Description")
			if c.AtLeast(8) {
				o = table("User ID", "Description", ">Shell Access")
			}
			for _, u := range c.State.Users {
				row := []any{u.Name, u.Description, u.Shell}
				o.add(row[:len(o.columns)]...)
			}
			return o, nil
		}},
		{path: base + "add", text: "Add an account.", options: append([]option{id}, secrets...), run: accountAdd},
		{path: base + "set", text: "Change an account.", options: append([]option{id, shell}, secrets...), run: accountSet},
		{path: base + "remove", text: "Remove an account.", options: []option{id}, run: func(c *call) (output, error) {
			u, err := account(c)
			if err != nil {
				return output{}, err
			}
			if u.Name == "root" || u.Name == "dcui" {
				return output{}, refuse("Cannot remove the account %s", u.Name)
			}
			c.State.Users = slices.DeleteFunc(c.State.Users, func(o host.User) bool { return o.Name == c.str("id") })
			return output{}, nil
		}},
	}
}

func account(c *call) (*host.User, error) {
	u := c.State.User(c.str("id"))
	if u == nil {
		return nil, refuse("The account %s does not exist", c.str("id"))
	}
	return u, nil
}

var accountForm = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)

func accountAdd(c *call) (output, error) {
	name := c.str("id")
	switch {
	case c.State.User(name) != nil:
		return output{}, refuse("The specified key, name, or identifier '%s' already exists.", name)
	case !accountForm.MatchString(name):
		return output{}, refuse("Invalid account name '%s'", name)
	case !c.has("password"):
		return output{}, &usageError{"Missing required parameter -p|--password", nil}
	}
	password, err := newPassword(c)
	if err != nil {
		return output{}, err
	}
	c.State.Users = append(c.State.Users, host.User{Name: name, Description: c.str("description"), Password: host.Digest(password), Shell: true})
	return output{}, nil
}

func accountSet(c *call) (output, error) {
	u, err := account(c)
	if err != nil {
		return output{}, err
	}
	if c.has("password") {
		password, err := newPassword(c)
		if err != nil {
			return output{}, err
		}
		u.Password = host.Digest(password)
	}
	if c.has("description") {
		u.Description = c.str("description")
	}
	if c.has("shell-access") {
		if !c.AtLeast(8) {
			return output{}, &usageError{"Invalid option --shell-access", nil}
		}
		u.Shell = c.truth("shell-access")
	}
	return output{}, nil
}

// newPassword takes the password from the command line or, better, from the
// input, and checks it as the default of PasswordQualityControl wants it:
// at least seven characters of all four classes.
func newPassword(c *call) (string, error) {
	var lines *bufio.Scanner
	read := func(option string) string {
		value := c.str(option)
		if value != prompt {
			return value
		}
		if lines == nil {
			lines = bufio.NewScanner(c.stdin)
		}
		lines.Scan()
		return lines.Text()
	}
	password := read("password")
	if again := read("password-confirmation"); again != password {
		return "", refuse("The passwords do not match")
	}
	classes := 0
	for _, class := range []string{"abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"} {
		if strings.ContainsAny(password, class) {
			classes++
		}
	}
	if strings.Trim(password, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
		classes++
	}
	if len(password) < 7 || classes < 3 {
		return "", refuse("Weak password: not enough different characters or classes for this length")
	}
	return password, nil
}
