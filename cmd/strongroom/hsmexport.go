package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/internal/durable"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/pkcs11"
)

// exportOptions are the flags of export-root-to. All are required.
type exportOptions struct {
	configFile, root, transportKey, fingerprint, soPINFile, out string
}

func exportRootCommand() *cobra.Command {
	var o exportOptions
	cmd := &cobra.Command{
		Use:  "export-root-to --config FILE --root FILE --transport-key FILE --fingerprint HEX --so-pin-file FILE --out FILE",
		Args: cobra.NoArgs, Short: "Wrap the root key to the HSM of one more node, with the security officer's consent",
		Long: `Runs on a node whose HSM has the root key and a transport key of the flexible
profile; its server may run. Writes a file that the other HSM, and no other,
takes by strongroom hsm import-root. There is nothing secret in it.

--root is what strongroom cluster get-root-key -o json answers, or the file that
this node was fed by. --fingerprint is that of the other HSM's transport key, as
strongroom hsm transport-key shows it there, brought by another way than the
file: it says who receives the root key, and a file that was swapped is refused.

The HSM lets the root key leave under a public key that its security officer
trusts, and under no other. The officer's PIN is tried once; the trust ends with
the command, and what a killed one left behind the next one removes.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return exportRoot(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&o.configFile, "config", "", "configuration file of the node")
	cmd.Flags().StringVar(&o.root, "root", "", "description of the root key (strongroom cluster get-root-key -o json)")
	cmd.Flags().StringVar(&o.transportKey, "transport-key", "", "public transport key of the HSM that shall receive the root key")
	cmd.Flags().StringVar(&o.fingerprint, "fingerprint", "", "fingerprint of that key, as its own node shows it")
	cmd.Flags().StringVar(&o.soPINFile, "so-pin-file", "", "file with the security officer's PIN (mode 0600)")
	cmd.Flags().StringVar(&o.out, "out", "", "write the wrapped root key to this new file")
	return cmd
}

func (o exportOptions) check() error {
	for _, f := range [][2]string{
		{"root", o.root}, {"transport-key", o.transportKey}, {"fingerprint", o.fingerprint}, {"so-pin-file", o.soPINFile}, {"out", o.out},
	} {
		if err := required(f[0], f[1]); err != nil {
			return err
		}
	}
	if _, err := os.Lstat(o.out); !errors.Is(err, os.ErrNotExist) {
		return usagef("--out: %s is there already, or cannot be looked at; name a new file", o.out)
	}
	return nil
}

// exportRoot checks all that needs no HSM before the first PIN is used.
func exportRoot(ctx context.Context, o exportOptions, out io.Writer) error {
	cfg, err := hsmOnly(o.configFile)
	if err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	key, err := readRootKey(o.root, false)
	if err != nil {
		return err
	}
	if err := ofThisCluster(cfg, key, o.root); err != nil {
		return err
	}
	to, err := readReceiver(o.transportKey, o.fingerprint)
	if err != nil {
		return err
	}
	root, err := pkcs11.ExportRoot(ctx, hsmConfig(cfg, slog.New(slog.DiscardHandler), nil),
		pkcs11.Export{Root: rootFromWire(key), To: to, SOPINFile: o.soPINFile})
	if err != nil {
		return err
	}
	text, err := formatRootExport(rootToWire(cfg.Cluster.ID, root))
	if err != nil {
		return err
	}
	if err := durable.Create(o.out, text); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "wrote %s: root key v%d for the HSM whose transport key has the fingerprint\n  %x\nand for no other. "+
		"Compare this once more with what strongroom hsm transport-key shows there; then, there:\n  strongroom hsm import-root --config FILE --in FILE\n",
		o.out, root.Version, root.Copies[0].Fingerprint)
	return err
}

// ofThisCluster tells a mixed-up file before an HSM is asked.
func ofThisCluster(cfg config.Config, key wire.RootKeyResponse, path string) error {
	if key.ClusterID != cfg.Cluster.ID {
		return fault.New(fault.InvalidRequest, "%s is of cluster %s; the configuration is of cluster %s", path, printable(key.ClusterID), cfg.Cluster.ID)
	}
	return nil
}

// readReceiver reads a transport key and holds it against the fingerprint
// that came by another way.
func readReceiver(path, fingerprint string) (pkcs11.Recipient, error) {
	want, err := hex.DecodeString(strings.NewReplacer(":", "", " ", "").Replace(fingerprint))
	if err != nil || len(want) != 32 {
		return pkcs11.Recipient{}, usagef("--fingerprint must be the 64 hexadecimal digits that strongroom hsm transport-key shows on the other node")
	}
	text, err := readBounded(path, maxRootFile)
	if err != nil {
		return pkcs11.Recipient{}, fmt.Errorf("transport key: %w", err)
	}
	r, err := parseTransportKey(receiverName(text), text)
	if err != nil {
		return pkcs11.Recipient{}, err
	}
	if got := fingerprintOf(r.PublicDER); !bytes.Equal(got, want) {
		return pkcs11.Recipient{}, fault.New(fault.InvalidRequest, "transport-key: the key in %s has the fingerprint %x, not %x: "+
			"it is another HSM's, or was swapped on its way; whoever holds it would receive the root key", path, got, want)
	}
	return r, nil
}

func importRootCommand() *cobra.Command {
	var configFile, in string
	cmd := &cobra.Command{
		Use: "import-root --config FILE --in FILE", Args: cobra.NoArgs,
		Short: "Take in the root key that another node's HSM wrapped to this one",
		Long: `Runs on the node whose transport key was named to strongroom hsm export-root-to.
The HSM unwraps the root key, which is then proven by a fresh process: it is the
one that was exported, it opens its canary, and the HSM keeps it in. A server
that is started here finds it by itself. Doing it again does no harm.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return importRoot(cmd.Context(), configFile, in, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&configFile, "config", "", "configuration file of the node")
	cmd.Flags().StringVar(&in, "in", "", "file that strongroom hsm export-root-to wrote for this HSM")
	return cmd
}

func importRoot(ctx context.Context, configFile, in string, out io.Writer) error {
	cfg, err := hsmOnly(configFile)
	if err != nil {
		return err
	}
	if err := required("in", in); err != nil {
		return err
	}
	key, err := readRootKey(in, true)
	if err != nil {
		return err
	}
	if err := ofThisCluster(cfg, key, in); err != nil {
		return err
	}
	if len(key.Copies) != 1 {
		return fault.New(fault.InvalidRequest, "%s holds %d copies of the root key; a root export has one", in, len(key.Copies))
	}
	err = withDevice(ctx, cfg, func(d *pkcs11.Device) error {
		own, err := d.TransportKey(ctx)
		if err != nil {
			return fmt.Errorf("this node's transport key: %w (strongroom hsm create-transport-key makes it, and the root key has to be exported to it)", err)
		}
		if !bytes.Equal(own.Fingerprint, key.Copies[0].Fingerprint) {
			return fault.New(fault.InvalidRequest, "%s is for the HSM whose transport key has the fingerprint %x; this HSM's has %x",
				in, []byte(key.Copies[0].Fingerprint), own.Fingerprint)
		}
		return d.UseRoot(ctx, rootFromWire(key))
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "root key v%d of cluster %s is in the token %q and passed its checks; next: strongroom server --config %s\n",
		key.Version, cfg.Cluster.ID, cfg.HSM.TokenLabel, configFile)
	return err
}
