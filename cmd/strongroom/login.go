package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/durable"
	"github.com/strongroom/strongroom/internal/secret"
)

// kubernetesToken is where Kubernetes puts the token of a pod's service
// account. Its audience is the cluster's own; one for Strongroom is projected
// to a file of its own, for --jwt-file.
const kubernetesToken = "/var/run/secrets/kubernetes.io/serviceaccount/token"

type loginFlags struct {
	trust, jwtFile string
	kubernetes     bool
}

// loginCommand gets a token by a trust and puts it where every command looks
// for one. The token is shown to nobody.
func loginCommand() *cobra.Command {
	var f loginFlags
	cmd := &cobra.Command{
		Use:   "login --trust NAME",
		Short: "Log in at your identity provider, or with a JWT; writes the token to its file",
		Long: "Log in by a trust. Without a JWT the identity provider is asked for a code that you confirm in a browser, on any machine (RFC 8628).\n" +
			"The token is written to --token-file or " + envTokenFile + ", mode 0600, in one step; it is never printed.",
		Example: "  strongroom login --trust staff\n  strongroom login --trust ci --jwt-file - < jwt\n  strongroom login --trust cluster --kubernetes",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return login(cmd, f) },
	}
	cmd.Flags().StringVar(&f.trust, "trust", "", "name of the trust")
	cmd.Flags().StringVar(&f.jwtFile, "jwt-file", "", "file with a JWT of the trust's issuer (- is standard input)")
	cmd.Flags().BoolVar(&f.kubernetes, "kubernetes", false, "take the token of this pod's service account")
	return cmd
}

func login(cmd *cobra.Command, f loginFlags) error {
	if f.trust == "" {
		return usagef("--trust is missing: the name of a trust; an administrator finds them with strongroom trust ls")
	}
	if f.kubernetes && f.jwtFile != "" {
		return usagef("--kubernetes and --jwt-file exclude each other")
	}
	conn, err := connect(cmd, true)
	if err != nil {
		return err
	}
	defer conn.Close()
	if conn.tokenFile == "" {
		return usagef("no file for the token: set %s or --token-file", envTokenFile)
	}
	jwt, err := f.jwt(cmd, conn)
	if err != nil {
		return err
	}
	defer jwt.Wipe()
	answer, err := conn.IAM().Login(cmd.Context(), wire.LoginRequest{Trust: f.trust, JWT: wire.NewText(jwt)})
	if err != nil {
		return err
	}
	defer answer.Token.Wipe()
	if err := replaceToken(conn.tokenFile, answer.Token.Bytes); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "logged in: token %s is in %s until %s\n", printable(answer.TokenID), conn.tokenFile, answer.ExpiresAt.Format("2006-01-02 15:04:05 MST"))
	return err
}

// jwt answers what stands for the caller: a file, or what the issuer gives.
func (f loginFlags) jwt(cmd *cobra.Command, conn *connection) (secret.Bytes, error) {
	file := f.jwtFile
	if f.kubernetes {
		file = kubernetesToken
	}
	if file != "" {
		return (&inputs{cmd: cmd}).credential("jwt-file", file)
	}
	how, err := conn.IAM().DescribeLogin(cmd.Context(), wire.DescribeLoginRequest{Trust: f.trust})
	if err != nil {
		return secret.Bytes{}, err
	}
	if how.ClientID == "" || how.Issuer == "" {
		return secret.Bytes{}, usagef("the trust %s, of kind %s, has no clientId: log in with --jwt-file, or --kubernetes", f.trust, how.Kind)
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), deviceTime)
	defer cancel()
	return deviceLogin(ctx, how, cmd.ErrOrStderr())
}

// replaceToken puts the token into its file by a rename: a program that reads
// it meanwhile finds the old one or the new one, whole.
func replaceToken(path string, token secret.Bytes) error {
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("--token-file: %s is no regular file", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".strongroom-*") // mode 0600
	if err != nil {
		return fmt.Errorf("--token-file: %w", err)
	}
	text := append(append(make([]byte, 0, token.Len()+1), token.Expose()...), '\n')
	defer clear(text)
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		return durable.SyncDir(filepath.Dir(path))
	}
	return errors.Join(fmt.Errorf("--token-file: %w", err), os.Remove(f.Name()))
}
