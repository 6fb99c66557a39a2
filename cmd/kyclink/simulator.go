package main

import (
	"fmt"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

func newSimulator() *cobra.Command {
	var listen, scriptFile string
	cmd := &cobra.Command{
		Use:   "simulator",
		Short: "Simulate FaceKi, for tests and trials",
		Long: `Simulate FaceKi's API, which has no sandbox. The simulator creates links that nobody can
open, and injects the faults of its script. Give a script with --script, or PUT one to
/_simulator/script at run time; PUT /_simulator/faults/NAME sets one by name: off, some,
outage or no-credit. GET /_simulator/state shows what it has received.

Anyone who can reach the simulator can change its script: keep it on a loopback address.`,
		Example: `  kyclink simulator --listen 127.0.0.1:8888
  FACEKI_BASE_URL=http://127.0.0.1:8888 kyclink run people.csv -o links.csv --simulate
  curl -X PUT 127.0.0.1:8888/_simulator/script -d '{"faults":[{"fault":"http_500","probability":0.3}]}'
  curl 127.0.0.1:8888/_simulator/state`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var cfg simulator.Config
			if scriptFile != "" {
				raw, err := os.ReadFile(scriptFile)
				if err == nil {
					cfg.Script, err = simulator.ParseScript(raw)
				}
				if err != nil {
					return usageError(cmd, fmt.Errorf("--script: %w", err))
				}
			}
			listener, err := listenAt("--listen", listen)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "http://%s\n", listener.Addr())
			if address, ok := listener.Addr().(*net.TCPAddr); ok && !address.IP.IsLoopback() {
				fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: WARNING: %s is not a loopback address: anyone who can reach it can change the script and read application IDs; "+
					"use --listen 127.0.0.1:%d\n", address, address.Port)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: simulator is listening; its state is at http://%s/_simulator/state\n", listener.Addr())
			return simulator.New(cfg).Serve(cmd.Context(), listener)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8888", "listen on `ADDRESS`; port 0 is any free port, and the URL is printed")
	cmd.Flags().StringVar(&scriptFile, "script", "", "read the script from a JSON `FILE`")
	return cmd
}
