package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/client"
	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/internal/secret"
)

// Variables that say where the cluster is and who asks.
const (
	envAddr      = "STRONGROOM_ADDR"
	envFallback  = "STRONGROOM_FALLBACK_ADDRS"
	envCACert    = "STRONGROOM_CACERT"
	envToken     = "STRONGROOM_TOKEN"
	envTokenFile = "STRONGROOM_TOKEN_FILE"

	envAccessKeyID         = "STRONGROOM_ACCESS_KEY_ID"
	envSecretAccessKeyFile = "STRONGROOM_SECRET_ACCESS_KEY_FILE"
	envCert                = "STRONGROOM_CLIENT_CERT"
	envKey                 = "STRONGROOM_CLIENT_KEY"
)

// Bounds of one command. A node that cannot be reached is soon told; a
// cluster that elects a leader is waited for.
const (
	clientTimeout = 30 * time.Second
	clientConnect = 3 * time.Second
)

// connection is a client and who it speaks for.
type connection struct {
	*client.Client
	tokenFile string
}

func addConnectionFlags(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.String("addr", "", "addresses of nodes, https://HOST:PORT, with commas between them ("+envAddr+")")
	flags.String("cacert", "", "PEM file with the authority of the servers' certificates ("+envCACert+"; default: the system's)")
	flags.String("token-file", "", "file with your token, mode 0600 ("+envTokenFile+")")
	flags.String("access-key-id", "", "sign requests with this access key ("+envAccessKeyID+")")
	flags.String("secret-access-key-file", "", "file with the secret of the access key, mode 0600 ("+envSecretAccessKeyFile+")")
	flags.String("client-cert", "", "PEM file with your client certificate, instead of a token ("+envCert+")")
	flags.String("client-key", "", "PEM file with its private key, mode 0600 ("+envKey+")")
	flags.Duration("timeout", clientTimeout, "how long to try")
	flags.StringP("output", "o", formatTable, "table or json")
}

// setting is a flag, or the variable for it.
func setting(cmd *cobra.Command, flag, variable string) (string, error) {
	value, err := cmd.Flags().GetString(flag)
	if err == nil && value == "" && !cmd.Flags().Changed(flag) {
		value = os.Getenv(variable)
	}
	return value, err
}

// connect makes a client from flags and environment. An open operation is one
// that needs no credential.
func connect(cmd *cobra.Command, open bool) (*connection, error) {
	addr, err := setting(cmd, "addr", envAddr)
	if err != nil {
		return nil, err
	}
	if addr != "" && !cmd.Flags().Changed("addr") {
		addr += "," + os.Getenv(envFallback)
	}
	ca, caErr := setting(cmd, "cacert", envCACert)
	tokenFile, tokenErr := setting(cmd, "token-file", envTokenFile)
	timeout, timeoutErr := howLong(cmd)
	if err := errors.Join(caErr, tokenErr, timeoutErr); err != nil {
		return nil, err
	}
	addresses := strings.FieldsFunc(addr, func(r rune) bool { return r == ',' || r == ' ' })
	if len(addresses) == 0 {
		return nil, usagef("no address of a node: set %s or --addr%s", envAddr, localHint())
	}
	if timeout <= 0 {
		return nil, usagef("--timeout must be longer than 0")
	}
	certificate, err := clientCertificate(cmd)
	if err != nil {
		return nil, err
	}
	cfg := client.Config{
		Addresses: addresses, CAFile: ca, Certificate: certificate,
		RetryFor: timeout, RetryConnect: min(clientConnect, timeout), AttemptTimeout: min(client.DefaultAttemptTimeout, timeout), UserAgent: "strongroom/" + version(),
	}
	// An open operation needs no credential, and the token in the file may be
	// long out of date.
	if !open {
		if err := credential(cmd, &cfg, tokenFile); err != nil {
			return nil, err
		}
	}
	c, err := client.New(cfg)
	if err != nil {
		return nil, usageError{errors.New(strings.TrimPrefix(err.Error(), "client: "))}
	}
	return &connection{Client: c, tokenFile: tokenFile}, nil
}

// credential puts a token, or an access key, into cfg. What is given as a flag
// goes before what is in the environment.
func credential(cmd *cobra.Command, cfg *client.Config, tokenFile string) error {
	id, idErr := setting(cmd, "access-key-id", envAccessKeyID)
	file, fileErr := setting(cmd, "secret-access-key-file", envSecretAccessKeyFile)
	if err := errors.Join(idErr, fileErr); err != nil {
		return err
	}
	asked := cmd.Flags().Changed("access-key-id") || cmd.Flags().Changed("secret-access-key-file")
	hasToken := tokenFile != "" || os.Getenv(envToken) != ""
	switch {
	case (id != "" || file != "") && (asked || !hasToken):
		if id == "" || file == "" {
			return usagef("an access key needs both: its id in %s or --access-key-id, and a file with its secret in %s or --secret-access-key-file", envAccessKeyID, envSecretAccessKeyFile)
		}
		if cmd.Flags().Changed("token-file") {
			return usagef("--token-file and --access-key-id are two credentials; give one")
		}
		cfg.AccessKeyID = id
		cfg.AccessKeySecret = func() (secret.Bytes, error) { return readToken(file) }
	case id != "" || file != "":
		if !cmd.Flags().Changed("token-file") {
			return usagef("there are two credentials in the environment; unset %s and %s, or %s and %s", envToken, envTokenFile, envAccessKeyID, envSecretAccessKeyFile)
		}
		fallthrough
	default:
		if !hasToken && cfg.Certificate != nil {
			return nil
		}
		if !hasToken {
			return usagef("no credential: set %s or --token-file to a file with your token%s", envTokenFile, localHint())
		}
		cfg.Token = func() (secret.Bytes, error) { return readToken(tokenFile) }
	}
	return nil
}

// clientCertificate reads the certificate to show, nil if there is none.
func clientCertificate(cmd *cobra.Command) (*tls.Certificate, error) {
	certFile, certErr := setting(cmd, "client-cert", envCert)
	keyFile, keyErr := setting(cmd, "client-key", envKey)
	if err := errors.Join(certErr, keyErr); err != nil || certFile == "" && keyFile == "" {
		return nil, err
	}
	if certFile == "" || keyFile == "" {
		return nil, usagef("--client-cert and --client-key go together")
	}
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return nil, err
	}
	key, err := config.ReadSecret(keyFile, 64<<10)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, usagef("--client-cert, --client-key: %v", err)
	}
	return &pair, nil
}

// howLong answers how long to try. An operation with a field of that name has
// a flag --timeout of its own, which says something else.
func howLong(cmd *cobra.Command) (time.Duration, error) {
	if f := cmd.Flags().Lookup("timeout"); f != nil && f.Value.Type() != "duration" || cmd.LocalNonPersistentFlags().Lookup("timeout") != nil {
		return clientTimeout, nil
	}
	return cmd.Flags().GetDuration("timeout")
}

// localHint helps who just ran make run.
func localHint() string {
	if _, err := os.Stat(".strongroom/env"); err == nil {
		return "; for the local cluster: source .strongroom/env"
	}
	return ""
}

// readToken reads the credential from its file, which nobody else may read,
// or from the environment where there is no file.
func readToken(file string) (secret.Bytes, error) {
	raw := []byte(os.Getenv(envToken))
	if file != "" {
		var err error
		if raw, err = config.ReadSecret(file, 4096); err != nil {
			return secret.Bytes{}, err
		}
	}
	token := bytes.TrimSpace(raw)
	if len(token) == 0 {
		return secret.Bytes{}, fmt.Errorf("%s is empty", file)
	}
	return secret.New(token), nil
}
