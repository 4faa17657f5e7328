package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/pki"
)

func readBundle(path string) (*pki.Bundle, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	b, err := pki.ParseBundle(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

func addCACommand() *cobra.Command {
	var bundle, cert string
	cmd := &cobra.Command{
		Use: "add-ca --bundle FILE --ca-cert FILE", Args: cobra.NoArgs,
		Short: "Trust one more authority: the first step of its replacement",
		Long: `Adds the authorities in --ca-cert to the file of authorities (cluster.caFile).
Nothing else changes: nodes that have read it trust certificates of either.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(required("bundle", bundle), required("ca-cert", cert)); err != nil {
				return err
			}
			more, err := readBundle(cert)
			if err != nil {
				return err
			}
			return changeBundle(cmd, bundle, func(b *pki.Bundle) (*pki.Bundle, error) { return b.With(more) })
		},
	}
	cmd.Flags().StringVar(&bundle, "bundle", "", "file of the authorities that are trusted (cluster.caFile)")
	cmd.Flags().StringVar(&cert, "ca-cert", "", "certificate of the new authority")
	return cmd
}

func dropCACommand() *cobra.Command {
	var bundle, fingerprint string
	cmd := &cobra.Command{
		Use: "drop-ca --bundle FILE --fingerprint HEX", Args: cobra.NoArgs,
		Short: "Trust an authority no more: the last step of its replacement",
		Long: `Takes an authority out of the file of authorities (cluster.caFile). Do it when
strongroom cluster tls says that it may be dropped: nodes that have read the file
refuse certificates of it, and cut the connections that rest on one.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(required("bundle", bundle), required("fingerprint", fingerprint)); err != nil {
				return err
			}
			return changeBundle(cmd, bundle, func(b *pki.Bundle) (*pki.Bundle, error) { return b.Without(fingerprint) })
		},
	}
	cmd.Flags().StringVar(&bundle, "bundle", "", "file of the authorities that are trusted (cluster.caFile)")
	cmd.Flags().StringVar(&fingerprint, "fingerprint", "", "of the authority: eight hex digits or more")
	return cmd
}

func changeBundle(cmd *cobra.Command, path string, change func(*pki.Bundle) (*pki.Bundle, error)) error {
	b, err := readBundle(path)
	if err != nil {
		return err
	}
	if b, err = change(b); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := pki.ReplaceFile(path, b.PEM(), 0o644); err != nil {
		return err
	}
	return showCertificates(cmd.OutOrStdout(), b.Certificates())
}

func showTLSCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show FILE...", Args: cobra.MinimumNArgs(1), Short: "Show the certificates in files: fingerprints, names and dates",
		RunE: func(cmd *cobra.Command, args []string) error {
			var all []*x509.Certificate
			for _, path := range args {
				certs, err := readCertificates(path)
				if err != nil {
					return err
				}
				all = append(all, certs...)
			}
			return showCertificates(cmd.OutOrStdout(), all)
		},
	}
}

func readCertificates(path string) ([]*x509.Certificate, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	for {
		block, rest := pem.Decode(raw)
		if block == nil {
			break
		}
		if raw = rest; block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return out, nil
}

func showCertificates(out io.Writer, certs []*x509.Certificate) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "FINGERPRINT\tSUBJECT\tISSUER\tNOT AFTER")
	for _, c := range certs {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", pki.Fingerprint(c), printable(c.Subject.String()), printable(c.Issuer.String()), c.NotAfter.UTC().Format(time.RFC3339))
	}
	return w.Flush()
}
