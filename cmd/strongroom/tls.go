package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/internal/pki"
)

// pairFlags are the files of an authority and of what it issues.
type pairFlags struct {
	caCert, caKey, outCert, outKey string
	replace                        bool
}

func (p *pairFlags) add(cmd *cobra.Command, ca bool) {
	if ca {
		cmd.Flags().StringVar(&p.caCert, "ca-cert", "", "certificate of the authority")
		cmd.Flags().StringVar(&p.caKey, "ca-key", "", "private key of the authority")
		cmd.Flags().BoolVar(&p.replace, "replace", false, "renew: the two files may be there, and are replaced; a running server takes them on SIGHUP")
	}
	cmd.Flags().StringVar(&p.outCert, "cert", "", "file for the certificate; must not be there yet")
	cmd.Flags().StringVar(&p.outKey, "key", "", "file for the private key (mode 0600); must not be there yet")
}

func (p *pairFlags) check(ca bool) error {
	for _, f := range []struct {
		name, value string
		wanted      bool
	}{{"ca-cert", p.caCert, ca}, {"ca-key", p.caKey, ca}, {"cert", p.outCert, true}, {"key", p.outKey, true}} {
		if !f.wanted {
			continue
		}
		if err := required(f.name, f.value); err != nil {
			return err
		}
	}
	return nil
}

func tlsCommand() *cobra.Command {
	cmd := group("tls", "Make and replace certificates and gossip keys: one authority for the API, another for the link between nodes")
	cmd.AddCommand(createCACommand(), issueServerCommand(), issueNodeCommand(), addCACommand(), dropCACommand(), showTLSCommand(), gossipKeyCommand())
	return cmd
}

func createCACommand() *cobra.Command {
	var files pairFlags
	var name string
	cmd := &cobra.Command{
		Use: "create-ca --cert FILE --key FILE", Short: "Make a certificate authority (ECDSA P-256, ten years)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := files.check(false); err != nil {
				return err
			}
			pair, err := pki.CreateCA(name, time.Now())
			if err != nil {
				return err
			}
			return files.write(cmd, pair)
		},
	}
	files.add(cmd, false)
	cmd.Flags().StringVar(&name, "name", "Strongroom CA", "common name")
	return cmd
}

func issueServerCommand() *cobra.Command {
	var files pairFlags
	var hosts []string
	cmd := &cobra.Command{
		Use:   "issue-server --ca-cert FILE --ca-key FILE --host NAME… --cert FILE --key FILE",
		Short: "Issue a server certificate of the API", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := files.check(true); err != nil {
				return err
			}
			if len(hosts) == 0 {
				return usagef("--host is required: a name or address that clients use")
			}
			ca, err := pki.ReadPair(files.caCert, files.caKey)
			if err != nil {
				return err
			}
			pair, err := pki.IssueServer(ca, hosts, time.Now())
			if err != nil {
				return err
			}
			return files.write(cmd, pair)
		},
	}
	files.add(cmd, true)
	cmd.Flags().StringSliceVar(&hosts, "host", nil, "DNS name or IP address; may be given more than once")
	return cmd
}

func issueNodeCommand() *cobra.Command {
	var files pairFlags
	var configFile, clusterID, nodeID string
	cmd := &cobra.Command{
		Use:   "issue-node --ca-cert FILE --ca-key FILE --cluster UUID --node ID --cert FILE --key FILE",
		Short: "Issue the certificate of a node for the link between nodes", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if configFile != "" { // names and files from the node's own configuration
				cfg, err := config.Load(configFile)
				if err != nil {
					return err
				}
				clusterID, nodeID = cfg.Cluster.ID, cfg.Node.ID
				files.outCert, files.outKey = cfg.Cluster.CertFile, cfg.Cluster.KeyFile
			}
			if err := files.check(true); err != nil {
				return err
			}
			if clusterID == "" || nodeID == "" {
				return usagef("--cluster and --node are required, or --config")
			}
			ca, err := pki.ReadPair(files.caCert, files.caKey)
			if err != nil {
				return err
			}
			pair, err := pki.IssueNode(ca, clusterID, nodeID, time.Now())
			if err != nil {
				return err
			}
			return files.write(cmd, pair)
		},
	}
	files.add(cmd, true)
	cmd.Flags().StringVar(&clusterID, "cluster", "", "id of the cluster (cluster.id)")
	cmd.Flags().StringVar(&nodeID, "node", "", "id of the node (node.id)")
	cmd.Flags().StringVar(&configFile, "config", "", "take cluster, node and the two files from this configuration")
	return cmd
}

func (p *pairFlags) write(cmd *cobra.Command, pair pki.Pair) error {
	write := pair.Write
	if p.replace {
		write = pair.Replace
	}
	if err := write(p.outCert, p.outKey); err != nil {
		return err
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "wrote %s and %s\n", p.outCert, p.outKey)
	return err
}
