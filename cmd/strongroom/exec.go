package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/strongroom/strongroom/client"
	"github.com/strongroom/strongroom/internal/agent"
	"github.com/strongroom/strongroom/internal/names"
)

const execHelp = `Run a command with values of secrets in its environment and in private files,
and keep it up to date.

The command gets our standard input, output and error, and our signals. We end
with its exit code (128 and the number of the signal that ended it; 126 and 127:
it could not be run). A version is confirmed to the cluster once the command
that runs has it, so that the old one can be destroyed safely.

Variables of a process can be read by its user in /proc/PID/environ, and are
inherited by all that it starts; --file is for programs that can read a file.
docs/agent.md has examples and limits.`

// execFlags are the flags as they are given.
type execFlags struct {
	env, prefixes, files []string
	onChange             string
	stopTimeout, splay   time.Duration
	maxAge               time.Duration
	instance             string
	keepToken, quiet     bool
}

func execCommand() *cobra.Command {
	var f execFlags
	cmd := &cobra.Command{
		Use: "exec [flags] -- COMMAND [ARG...]", Short: "Run a command with values in its environment or in private files", Long: execHelp,
		Example: `  strongroom exec --env DB_PASSWORD=/app/prod/web/db-password -- /usr/bin/web
  strongroom exec --env-prefix /app/prod/web/ --file TLS_KEY=/app/prod/tls#key --on-change signal:HUP -- /usr/bin/web`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || cmd.ArgsLenAtDash() != 0 {
				return errors.New("the command comes after --, and nothing else before it: strongroom exec --env NAME=PATH -- COMMAND [ARG...]")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runExec(cmd, f, args) },
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.env, "env", nil, "NAME=/path/of/secret, or NAME=/path/of/secret#field for one member of a JSON object; repeatable")
	flags.StringArrayVar(&f.prefixes, "env-prefix", nil, "all secrets below a prefix, named by the last part of their path in upper case; repeatable")
	flags.StringArrayVar(&f.files, "file", nil, "NAME=PATH or NAME=PATH#field: a private file, whose path is in the variable NAME; repeatable")
	flags.StringVar(&f.onChange, "on-change", "restart", "what a new version does: restart, signal:NAME (such as signal:HUP), none or exit")
	flags.DurationVar(&f.stopTimeout, "stop-timeout", 10*time.Second, "how long the command has after SIGTERM, before SIGKILL")
	flags.DurationVar(&f.splay, "splay", 5*time.Second, "longest random pause before a change is acted upon, so that not all instances restart at once")
	flags.DurationVar(&f.maxAge, "max-age", 0, "use values for shorter than the server allows without an answer of it (default: as the server says)")
	flags.StringVar(&f.instance, "instance", "", "name of this consumer (default: the host's name and a suffix that stays the same)")
	flags.BoolVar(&f.keepToken, "keep-token", false, "let the command inherit "+envToken+" and "+envTokenFile)
	flags.BoolVar(&f.quiet, "quiet", false, "log warnings and errors only")
	return cmd
}

// reaction reads --on-change.
func reaction(text string) (string, syscall.Signal, error) {
	kind, name, has := strings.Cut(text, ":")
	switch {
	case !has && (text == agent.OnChangeRestart || text == agent.OnChangeNone || text == agent.OnChangeExit):
		return text, 0, nil
	case has && kind == agent.OnChangeSignal:
		n, err := agent.ParseSignal(name)
		if err != nil {
			return "", 0, usagef("--on-change: %w", err)
		}
		return kind, n, nil
	}
	return "", 0, usagef("--on-change must be restart, signal:NAME, none or exit; it is %q", text)
}

func (f execFlags) bindings() ([]agent.Binding, error) {
	var out []agent.Binding
	for _, one := range []struct {
		flag  string
		given []string
	}{{"env", f.env}, {"file", f.files}} {
		for _, text := range one.given {
			b, err := agent.ParseBinding(one.flag, text)
			if err != nil {
				return nil, usageError{err}
			}
			out = append(out, b)
		}
	}
	for _, prefix := range f.prefixes {
		if _, err := names.ParsePrefix(prefix); err != nil {
			return nil, usagef("--env-prefix: the prefix %w", err)
		}
	}
	switch {
	case len(out) == 0 && len(f.prefixes) == 0:
		return nil, usagef("there is nothing to give to the command: use --env, --env-prefix or --file")
	case f.stopTimeout <= 0:
		return nil, usagef("--stop-timeout must be longer than 0")
	case f.splay < 0 || f.maxAge < 0:
		return nil, usagef("--splay and --max-age must not be negative")
	}
	return out, nil
}

func runExec(cmd *cobra.Command, f execFlags, args []string) (err error) {
	bindings, err := f.bindings()
	if err != nil {
		return err
	}
	e := &agent.Exec{
		Bindings: bindings, Prefixes: f.prefixes, Command: args, StopTimeout: f.stopTimeout, Splay: f.splay,
		Environ: agent.Inherited(os.Environ(), f.keepToken), Terminal: term.IsTerminal(int(os.Stdin.Fd())),
		FileBases: []string{os.Getenv("XDG_RUNTIME_DIR"), fmt.Sprintf("/run/user/%d", os.Geteuid()), "/dev/shm", "/run"},
	}
	if e.OnChange, e.Signal, err = reaction(f.onChange); err != nil {
		return err
	}
	conn, err := connect(cmd, false)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := undumpable(); err != nil {
		return err
	}
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	instance, err := agent.TakeInstance("--instance", f.instance, append([]string{"exec", here, fmt.Sprint(f.env, f.prefixes, f.files)}, args...)...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, instance.Release()) }()
	level := slog.LevelInfo
	if f.quiet {
		level = slog.LevelWarn
	}
	e.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level})).With("strongroom", "exec")
	timeout, err := howLong(cmd)
	if err != nil {
		return err
	}
	if e.Source, err = agent.NewSource(conn.Client, client.CacheConfig{Instance: instance.Name, MaxAge: f.maxAge, RequestTimeout: timeout}); err != nil {
		return err
	}
	defer e.Source.Close()
	e.Uses = agent.NewUses(e.Log)
	signals := make(chan os.Signal, 32)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.SIGCHLD)
	defer signal.Stop(signals)
	e.Signals = signals
	// Signals are the command's to obey, so our context outlives them.
	return e.Run(context.WithoutCancel(cmd.Context()), timeout)
}
