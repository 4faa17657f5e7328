// Command strongroom is the whole product: the server, the ceremonies that
// set it up, a local cluster for trying it out, and the client.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/agent"
	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/pkcs11"
)

// release is the version of this source. The commit is added by the build.
const release = "0.1.0"

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1 // refused or failed
	exitUsage  = 2
)

func main() {
	// The HSM worker comes before anything else: it is a small process that
	// loads a vendor's library, and none of our flags mean anything to it.
	if len(os.Args) == 2 && os.Args[1] == "hsm-worker" {
		os.Exit(pkcs11.WorkerMain())
	}
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, stopHangups := withHangups(ctx, stop)
	defer stopHangups()
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	return execute(ctx, args, os.Stdin, os.Stdout, os.Stderr)
}

// execute runs one command line and answers its exit code.
func execute(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	var ended *agent.ExitError
	if errors.As(err, &ended) && ended.Err == nil { // a command that we ran has said what there was to say
		return ended.Code
	}
	showFailure(errOut, err)
	if ended != nil {
		return ended.Code
	}
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

const rootHelp = `Strongroom keeps versioned secrets in a replicated cluster, sealed under keys that
are held by HSMs, and decides and records who reads them.

A cluster on this machine, for trying it out:
  strongroom dev                            (then: source .strongroom/env)
First steps with any cluster:
  strongroom whoami
  strongroom secret put /app/dev/web/db-password --create
  strongroom secret get /app/dev/web/db-password

Commands that talk to a cluster take these from flags or the environment:
  STRONGROOM_ADDR            address of a node, https://HOST:7400; more with commas
  STRONGROOM_FALLBACK_ADDRS  more nodes, tried when the first is down
  STRONGROOM_CACERT          authority of the servers' certificates (PEM file)
  STRONGROOM_TOKEN_FILE      file with your token, mode 0600
                             (STRONGROOM_TOKEN takes the token itself; a file is safer)
  STRONGROOM_ACCESS_KEY_ID, STRONGROOM_SECRET_ACCESS_KEY_FILE
                             sign requests with an access key instead; the file holds
                             its secret, mode 0600

Values are never taken from the command line, where other users can see them.
Exit codes: 0 done, 1 refused or failed, 2 mistake in the command line.`

func newRoot() *cobra.Command {
	root := group("strongroom", "Secrets manager and key management service")
	root.Long = rootHelp
	root.Version = version()
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(serverCommand(), initCommand(), devCommand(), hsmCommand(), tlsCommand(), configCommand(), docsCommand())
	addClientCommands(root)
	markUsage(root)
	return root
}

// usageError is a mistake in the command line: exit code 2.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// group is a command that only has others below it.
func group(use, short string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("%q is not a command of %q; see %s --help", args[0], cmd.CommandPath(), cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
}

// markUsage makes every complaint about arguments a usageError.
func markUsage(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError{err}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		markUsage(sub)
	}
}

// required refuses an empty flag.
func required(name, value string) error {
	if value == "" {
		return usagef("--%s is required", name)
	}
	return nil
}

// loadConfig reads the file that --config names, and checks the files that it
// names in turn.
func loadConfig(path string) (config.Config, error) {
	if err := required("config", path); err != nil {
		return config.Config{}, err
	}
	cfg, err := config.Load(path)
	if err != nil {
		return config.Config{}, err
	}
	if err := cfg.CheckFiles(); err != nil {
		return config.Config{}, fmt.Errorf("configuration %s:\n%w", path, err)
	}
	return cfg, nil
}

// newLogger logs to standard error. config has checked level and format.
func newLogger(c config.Log) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options)), nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options)), nil
}

// version is the release and the commit that it was built from, if known.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return release
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return release + "+" + s.Value[:12]
		}
	}
	return release
}
