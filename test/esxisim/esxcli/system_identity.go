package esxcli

func identityCommands() []command {
	return []command{
		{path: "system uuid get", text: "Show the system's UUID.", run: func(c *call) (output, error) {
			if err := c.ReadUUID(); err != nil {
				return output{}, err
			}
			return output{line: c.State.UUID}, nil
		}},
		{path: "system welcomemsg get", text: "Show the message on the console.", run: func(c *call) (output, error) {
			return output{line: c.State.Welcome}, nil
		}},
		{path: "system welcomemsg set", text: "Set the message on the console.", options: []option{may("m", "message", text, "The message.")}, run: func(c *call) (output, error) {
			c.State.Welcome = c.str("message")
			return output{}, nil
		}},
	}
}
