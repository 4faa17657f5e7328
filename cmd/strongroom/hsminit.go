package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/pkcs11"
)

// hsmInitCommand prepares an HSM from nothing to its transport key. It may be
// run again: what is there is left alone.
func hsmInitCommand() *cobra.Command {
	var configFile, soPINFile, out, profile string
	cmd := &cobra.Command{
		Use: "init --config FILE [--so-pin-file FILE] [--profile strict|flexible] [--out FILE]", Args: cobra.NoArgs,
		Short: "Prepare this node's HSM: its token, if there is none, and its transport key; print the public half",
		Long: `With --so-pin-file it makes the token of hsm.tokenLabel in a free slot, unless there is
one: for software tokens and empty partitions. Without it the token must be there.
Then it makes the transport key, unless there is one (create-transport-key has the
profiles). What is there is left alone, so it may be run again.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			makeKey, err := transportKeyMaker(profile)
			if err != nil {
				return err
			}
			cfg, err := hsmOnly(configFile)
			if err != nil {
				return err
			}
			if soPINFile != "" {
				err := pkcs11.InitToken(cmd.Context(), hsmConfig(cfg, slog.New(slog.DiscardHandler), nil), soPINFile)
				if err != nil && !fault.Is(err, fault.AlreadyExists) {
					return err
				}
			}
			return printTransportKey(cmd, configFile, out, func(d *pkcs11.Device, ctx context.Context) (pkcs11.TransportKey, error) {
				key, err := d.TransportKey(ctx)
				if fault.Is(err, fault.NotFound) {
					return makeKey(d, ctx)
				}
				if err == nil && cmd.Flags().Changed("profile") && key.Profile != profile {
					// It decides whether the root key can leave: never pass
					// one off as the other.
					return key, fmt.Errorf("--profile: this HSM has a transport key of the profile %s already, and a profile is for the life of the key", key.Profile)
				}
				return key, err
			})
		},
	}
	cmd.Flags().StringVar(&configFile, "config", "", "configuration file of the node")
	cmd.Flags().StringVar(&soPINFile, "so-pin-file", "", "file with the security officer's PIN (mode 0600), where the token is to be made")
	cmd.Flags().StringVar(&profile, "profile", pkcs11.Strict, "strict, or flexible: the root key can be passed on to other HSMs")
	cmd.Flags().StringVar(&out, "out", "", "write the public half to this file (default: standard output)")
	return cmd
}
