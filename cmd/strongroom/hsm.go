package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/pkcs11"
)

func hsmCommand() *cobra.Command {
	cmd := group("hsm", "Prepare and probe a node's HSM")
	var configFile, soPINFile, out, profile string
	initToken := &cobra.Command{
		Use: "init-token --config FILE --so-pin-file FILE", Args: cobra.NoArgs,
		Short: "Make the token of hsm.tokenLabel in a free slot, with the PIN of hsm.pinFile",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := hsmOnly(configFile)
			if err != nil {
				return err
			}
			if err := required("so-pin-file", soPINFile); err != nil {
				return err
			}
			if err := pkcs11.InitToken(cmd.Context(), hsmConfig(cfg, slog.New(slog.DiscardHandler), nil), soPINFile); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "token %q is ready; next: strongroom hsm create-transport-key --config %s\n", cfg.HSM.TokenLabel, configFile)
			return err
		},
	}
	initToken.Flags().StringVar(&soPINFile, "so-pin-file", "", "file with the security officer's PIN (mode 0600)")
	create := &cobra.Command{
		Use: "create-transport-key --config FILE [--profile strict|flexible] [--out FILE]", Args: cobra.NoArgs,
		Short: "Make the key pair that this HSM receives the root key by; print its public half",
		Long: `Makes an RSA pair inside the HSM, whose private half never leaves it. The profile
is for the life of the pair, and the HSM itself enforces it:
  strict    what comes in by it never leaves this HSM again
  flexible  the root key can be passed on to other HSMs, each with the consent of
            the security officer (strongroom hsm export-root-to)`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			makeKey, err := transportKeyMaker(profile)
			if err != nil {
				return err
			}
			return printTransportKey(cmd, configFile, out, makeKey)
		},
	}
	create.Flags().StringVar(&profile, "profile", pkcs11.Strict, "strict, or flexible: the root key can be passed on to other HSMs")
	show := &cobra.Command{
		Use: "transport-key --config FILE [--out FILE]", Args: cobra.NoArgs,
		Short: "Print the public half of this HSM's transport key",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printTransportKey(cmd, configFile, out, (*pkcs11.Device).TransportKey)
		},
	}
	for _, c := range []*cobra.Command{create, show} {
		c.Flags().StringVar(&out, "out", "", "write it to this file (default: standard output)")
	}
	for _, c := range []*cobra.Command{initToken, create, show} {
		c.Flags().StringVar(&configFile, "config", "", "configuration file of the node")
		cmd.AddCommand(c)
	}
	cmd.AddCommand(hsmInitCommand(), hsmStatusCommand(), exportRootCommand(), importRootCommand(), rotateStorageKeyCommand())
	return cmd
}

// transportKeyMaker answers how a transport key of a profile is made.
func transportKeyMaker(profile string) (func(*pkcs11.Device, context.Context) (pkcs11.TransportKey, error), error) {
	switch profile {
	case pkcs11.Strict:
		return (*pkcs11.Device).CreateTransportKey, nil
	case pkcs11.Flexible:
		return (*pkcs11.Device).CreateFlexibleTransportKey, nil
	default:
		return nil, usagef("--profile must be %s or %s; it is %q", pkcs11.Strict, pkcs11.Flexible, profile)
	}
}

// hsmOnly loads a configuration for ceremonies that may come before the
// certificates are there.
func hsmOnly(path string) (config.Config, error) {
	if err := required("config", path); err != nil {
		return config.Config{}, err
	}
	return config.Load(path)
}

func printTransportKey(cmd *cobra.Command, configFile, out string, get func(*pkcs11.Device, context.Context) (pkcs11.TransportKey, error)) error {
	cfg, err := hsmOnly(configFile)
	if err != nil {
		return err
	}
	var key pkcs11.TransportKey
	err = withDevice(cmd.Context(), cfg, func(d *pkcs11.Device) error {
		key, err = get(d, cmd.Context())
		return err
	})
	if err != nil {
		return err
	}
	text := formatTransportKey(cfg.Node.ID, key)
	if out == "" {
		_, err = cmd.OutOrStdout().Write(text)
		return err
	}
	if err := os.WriteFile(out, text, 0o600); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "wrote %s (profile %s, fingerprint %x); give it to whoever runs strongroom init or strongroom hsm export-root-to, and compare the fingerprint by another way\n",
		out, key.Profile, key.Fingerprint)
	return err
}

// withDevice opens the HSM for one ceremony. Unlike a server it does not wait
// for an HSM that is away.
func withDevice(ctx context.Context, cfg config.Config, do func(*pkcs11.Device) error) error {
	d, err := pkcs11.Open(ctx, hsmConfig(cfg, slog.New(slog.DiscardHandler), nil))
	if err != nil {
		return err
	}
	if h := d.Health(); h.State == pkcs11.HealthDown {
		return errors.Join(fmt.Errorf("the HSM cannot be used: %s", h.Reason), d.Close())
	}
	return errors.Join(do(d), d.Close())
}

const (
	nodeLine = "Strongroom transport key of "
	wrapLine = "wrap: "
)

// formatTransportKey is PEM that other tools read, with a few lines for
// people and the best wrap before it.
func formatTransportKey(node string, k pkcs11.TransportKey) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s%s\nfingerprint: %x\n%s%s\n", nodeLine, node, k.Fingerprint, wrapLine, k.Wrap)
	b.Write(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.PublicDER}))
	return b.Bytes()
}

// receiverName answers whose transport key a file says that it is: a name for
// people, which nothing depends on.
func receiverName(text []byte) string {
	head, _, _ := strings.Cut(string(text), "\n")
	name, ok := strings.CutPrefix(strings.TrimSpace(head), nodeLine)
	if !ok {
		return ""
	}
	return printable(name)
}

// fingerprintOf is the fingerprint of a transport key.
func fingerprintOf(der []byte) []byte {
	sum := sha256.Sum256(der)
	return sum[:]
}

// parseTransportKey reads what formatTransportKey wrote, or a bare PEM.
func parseTransportKey(node string, text []byte) (pkcs11.Recipient, error) {
	head, _, _ := strings.Cut(string(text), "-----BEGIN")
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return pkcs11.Recipient{}, fault.Invalid("transport-key", "of %s: the file holds no PEM block PUBLIC KEY; make it with strongroom hsm transport-key on that node", node)
	}
	if more, _ := pem.Decode(rest); more != nil {
		return pkcs11.Recipient{}, fault.Invalid("transport-key", "of %s: the file holds more than one key", node)
	}
	r := pkcs11.Recipient{NodeID: node, PublicDER: block.Bytes}
	for line := range strings.Lines(head) {
		if wrap, ok := strings.CutPrefix(strings.TrimSpace(line), wrapLine); ok {
			r.Wrap = wrap
		}
	}
	return r, nil
}
