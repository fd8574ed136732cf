package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/esxid/esxid/test/curtin"
)

func newListCommand() *cobra.Command {
	var url, keyFile, name string
	cmd := &cobra.Command{
		Use:   "list --url URL --key-file FILE --name NAME",
		Short: "Print a boot resource as MAAS describes it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := os.ReadFile(keyFile)
			if err != nil {
				return err
			}
			detail, err := curtin.Resource(cmd.Context(), url, string(key), name)
			if err != nil {
				return err
			}
			var out bytes.Buffer
			if err := json.Indent(&out, detail, "", "  "); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), out.String())
			return err
		},
	}
	cmd.Flags().StringVar(&url, "url", "", "address of MAAS, such as http://127.0.0.1:5240/MAAS")
	cmd.Flags().StringVar(&keyFile, "key-file", "", "file with the API key")
	cmd.Flags().StringVar(&name, "name", "", "boot resource, such as esxi/6.7")
	return cmd
}
