package main

import "github.com/spf13/cobra"

func newCompletionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print the completion script for a shell",
		Long: "completion prints a script that lets a shell complete esxid's commands and flags.\n" +
			"SHELL is bash, zsh, fish or powershell. For this bash, and for all:\n\n" +
			"  source <(esxid completion bash)\n" +
			"  esxid completion bash > /etc/bash_completion.d/esxid",
		ValidArgs: []cobra.Completion{"bash", "zsh", "fish", "powershell"},
		Args:      exactly(1, "one shell: bash, zsh, fish or powershell"),
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return exactly(0, "one shell: bash, zsh, fish or powershell")(cmd, args)
		},
	}
}
