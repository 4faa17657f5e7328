package raft

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// libraryLogger lets hashicorp/raft log to slog. The library names indexes,
// terms and addresses; the bytes of entries it never logs.
type libraryLogger struct {
	to      *slog.Logger
	name    string
	implied []any
}

func newLibraryLogger(to *slog.Logger) hclog.Logger { return &libraryLogger{to: to} }

func slogLevel(level hclog.Level) slog.Level {
	switch level {
	case hclog.Error:
		return slog.LevelError
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Info:
		return slog.LevelInfo
	case hclog.Trace:
		return slog.LevelDebug - 4
	default:
		return slog.LevelDebug
	}
}

// plain turns the library's lazy formats into what slog can print.
func plain(args []any) []any {
	out := make([]any, 0, len(args))
	for _, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			a = format(f)
		}
		out = append(out, a)
	}
	return out
}

func format(f hclog.Format) any {
	layout, ok := f[0].(string)
	if !ok {
		return fmt.Sprint(f...)
	}
	return fmt.Sprintf(layout, f[1:]...)
}

func (l *libraryLogger) Log(level hclog.Level, msg string, args ...any) {
	l.to.Log(context.Background(), slogLevel(level), msg, plain(args)...)
}

func (l *libraryLogger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *libraryLogger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *libraryLogger) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *libraryLogger) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *libraryLogger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *libraryLogger) enabled(level hclog.Level) bool {
	return l.to.Enabled(context.Background(), slogLevel(level))
}

func (l *libraryLogger) IsTrace() bool { return l.enabled(hclog.Trace) }
func (l *libraryLogger) IsDebug() bool { return l.enabled(hclog.Debug) }
func (l *libraryLogger) IsInfo() bool  { return l.enabled(hclog.Info) }
func (l *libraryLogger) IsWarn() bool  { return l.enabled(hclog.Warn) }
func (l *libraryLogger) IsError() bool { return l.enabled(hclog.Error) }

func (l *libraryLogger) ImpliedArgs() []any { return l.implied }

func (l *libraryLogger) With(args ...any) hclog.Logger {
	return &libraryLogger{to: l.to.With(plain(args)...), name: l.name, implied: append(append([]any(nil), l.implied...), args...)}
}

func (l *libraryLogger) Name() string { return l.name }

func (l *libraryLogger) Named(name string) hclog.Logger {
	return &libraryLogger{to: l.to, name: name, implied: l.implied}
}

func (l *libraryLogger) ResetNamed(name string) hclog.Logger { return l.Named(name) }

// SetLevel does nothing: the level is the handler's.
func (l *libraryLogger) SetLevel(hclog.Level) {}

func (l *libraryLogger) GetLevel() hclog.Level {
	for _, level := range []hclog.Level{hclog.Trace, hclog.Debug, hclog.Info, hclog.Warn} {
		if l.enabled(level) {
			return level
		}
	}
	return hclog.Error
}

func (l *libraryLogger) StandardLogger(opts *hclog.StandardLoggerOptions) *log.Logger {
	return log.New(l.StandardWriter(opts), "", 0)
}

func (l *libraryLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return lineWriter{l.to}
}

// lineWriter logs each line at debug; memberlist's log goes there.
type lineWriter struct{ to *slog.Logger }

func (w lineWriter) Write(p []byte) (int, error) {
	w.to.Debug(string(bytes.TrimSpace(p)))
	return len(p), nil
}
