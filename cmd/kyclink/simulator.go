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
open, and fails as its script says: give a script with --script, or PUT one to
/_simulator/script while it runs. GET /_simulator/state shows what it has received.

Anyone who can reach its address can change its script: keep it on loopback.`,
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
			listener, err := new(net.ListenConfig).Listen(cmd.Context(), "tcp", listen)
			if err != nil {
				return fmt.Errorf("listen on %s (--listen): %w", listen, err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "http://%s\n", listener.Addr())
			if address, ok := listener.Addr().(*net.TCPAddr); ok && !address.IP.IsLoopback() {
				fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: WARNING: %s is not a loopback address: anyone who reaches it can change the script and read the application IDs; "+
					"use --listen 127.0.0.1:%d\n", address, address.Port)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "kyclink: simulator is listening; its state is at http://%s/_simulator/state\n", listener.Addr())
			return simulator.New(cfg).Serve(cmd.Context(), listener)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8888", "`ADDRESS` to listen on; port 0 means a free port, which is printed")
	cmd.Flags().StringVar(&scriptFile, "script", "", "JSON `FILE` with its behaviour")
	return cmd
}
