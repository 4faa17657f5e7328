package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/internal/gossipring"
	"github.com/strongroom/strongroom/internal/pki"
)

func gossipKeyCommand() *cobra.Command {
	cmd := group("gossip-key", "Make and replace the key of gossip, in a file that is the same on all nodes")
	cmd.AddCommand(
		gossipForm("create", "Make the file with one new key; it must not be there yet", "", func(path, _ string) (gossipring.Ring, error) {
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				return nil, fmt.Errorf("%s is there already; add adds a key to it", path)
			}
			return gossipring.Ring{gossipring.Generate()}, nil
		}),
		gossipForm("add", "Add a new key, which is taken and not sent with yet: the first step", "", changeRing(func(r gossipring.Ring, _ string) (gossipring.Ring, error) {
			return r.Add(gossipring.Generate())
		})),
		gossipForm("use", "Send with another key of the file: the second step", "of the key to send with", changeRing(gossipring.Ring.Use)),
		gossipForm("drop", "Take a key no more: the last step", "of the key to drop", changeRing(gossipring.Ring.Drop)),
		gossipForm("show", "Show the fingerprints of the keys, the one to send with first", "", nil),
	)
	return cmd
}

// gossipForm is a command that shows the keys of a file by their fingerprints,
// after it has written what make answers, if there is something to make. No key
// is ever printed.
func gossipForm(name, text, fingerprintIs string, make func(path, fingerprint string) (gossipring.Ring, error)) *cobra.Command {
	var path, fingerprint string
	use := name + " --file FILE"
	if fingerprintIs != "" {
		use += " --fingerprint HEX"
	}
	cmd := &cobra.Command{
		Use: use, Short: text, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := required("file", path)
			if err == nil && fingerprintIs != "" {
				err = required("fingerprint", fingerprint)
			}
			if err == nil && make != nil {
				err = writeRing(path, fingerprint, make)
			}
			if err != nil {
				return err
			}
			ring, err := readRing(path)
			if err != nil {
				return err
			}
			for i, fingerprint := range ring.Fingerprints() {
				use := "taken"
				if i == 0 {
					use = "sent with"
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s  %s\n", fingerprint, use)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&path, "file", "", "file of the keys (gossip.keyFile), mode 0600")
	if fingerprintIs != "" {
		cmd.Flags().StringVar(&fingerprint, "fingerprint", "", fingerprintIs+", as show has it")
	}
	return cmd
}

func writeRing(path, fingerprint string, make func(path, fingerprint string) (gossipring.Ring, error)) error {
	ring, err := make(path, fingerprint)
	if err != nil {
		return err
	}
	text := ring.Format()
	defer clear(text)
	return pki.ReplaceFile(path, text, 0o600)
}

func changeRing(change func(r gossipring.Ring, fingerprint string) (gossipring.Ring, error)) func(path, fingerprint string) (gossipring.Ring, error) {
	return func(path, fingerprint string) (gossipring.Ring, error) {
		r, err := readRing(path)
		if err != nil {
			return nil, err
		}
		if r, err = change(r, fingerprint); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return r, nil
	}
}

func readRing(path string) (gossipring.Ring, error) {
	raw, err := config.ReadSecret(path, gossipring.MaxFile)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	r, err := gossipring.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}
