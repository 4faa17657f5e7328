package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
)

// inputs reads what does not belong on a command line.
type inputs struct {
	cmd  *cobra.Command
	used bool // standard input was read
}

// maxInput is the largest value that any server takes.
const maxInput = 1 << 20

// maxCredential is above the largest JWT that any server takes.
const maxCredential = 64 << 10

// terminal reports whether standard input is a person.
func (in *inputs) terminal() bool {
	f, ok := in.cmd.InOrStdin().(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// ask reads a value from standard input, or from a prompt without echo.
func (in *inputs) ask(what string) (secret.Bytes, error) {
	if !in.terminal() || in.used {
		return in.value(what, "-")
	}
	in.used = true
	first, err := in.prompt("New " + what + " (not shown): ")
	if err != nil {
		return secret.Bytes{}, err
	}
	second, err := in.prompt("Once more: ")
	if err != nil {
		first.Wipe()
		return secret.Bytes{}, err
	}
	defer second.Wipe()
	if !first.Equal(second) {
		first.Wipe()
		return secret.Bytes{}, errors.New("the two do not match; nothing was sent")
	}
	if first.Len() == 0 {
		return secret.Bytes{}, errors.New("nothing was typed; nothing was sent")
	}
	return first, nil
}

// prompt reads a line without echo. Ctrl-C leaves the terminal as it was.
func (in *inputs) prompt(text string) (secret.Bytes, error) {
	fd := int(os.Stdin.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("terminal: %w", err)
	}
	fmt.Fprint(in.cmd.ErrOrStderr(), text)
	line, err := waitFor(in.cmd.Context(), func() ([]byte, error) { return term.ReadPassword(fd) })
	fmt.Fprintln(in.cmd.ErrOrStderr())
	if err != nil {
		return secret.Bytes{}, errors.Join(err, term.Restore(fd, before))
	}
	return secret.New(line), nil
}

// value reads a value, bytes as they are, from a file or standard input.
func (in *inputs) value(flag, file string) (secret.Bytes, error) {
	raw, err := in.read(flag, file, maxInput)
	if err != nil {
		return secret.Bytes{}, err
	}
	if len(raw) == 0 {
		return secret.Bytes{}, usagef("--%s: %s is empty; a value has at least one byte", flag, fileName(file))
	}
	if file == "-" && bytes.IndexByte(raw, '\n') == len(raw)-1 {
		fmt.Fprintln(in.cmd.ErrOrStderr(), "Note: the value ends with a line feed, which is kept; echo adds one, printf does not.")
	}
	return secret.New(raw), nil
}

// credential reads a text such as a JWT, without white space around it.
func (in *inputs) credential(flag, file string) (secret.Bytes, error) {
	raw, err := in.read(flag, file, maxCredential)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer clear(raw)
	text := bytes.TrimSpace(raw)
	if len(text) == 0 {
		return secret.Bytes{}, usagef("--%s: %s is empty", flag, fileName(file))
	}
	return secret.Copy(text), nil
}

// askCredential reads a credential from standard input, or from a prompt
// without echo.
func (in *inputs) askCredential(what string) (secret.Bytes, error) {
	if !in.terminal() || in.used {
		return in.credential(what, "-")
	}
	in.used = true
	return in.prompt(what + " (not shown): ")
}

// read reads a whole file, or standard input for "-".
func (in *inputs) read(flag, file string, limit int) ([]byte, error) {
	r, err := in.open(file)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	defer r.Close()
	raw, err := waitFor(in.cmd.Context(), func() ([]byte, error) {
		var b wipingBuffer
		_, err := io.Copy(&b, io.LimitReader(r, int64(limit)+1))
		return b.b, err
	})
	if err != nil {
		return nil, fmt.Errorf("--%s: %s: %w", flag, fileName(file), err)
	}
	if len(raw) > limit {
		clear(raw)
		return nil, fmt.Errorf("--%s: %s has more than %d bytes", flag, fileName(file), limit)
	}
	return raw, nil
}

func fileName(file string) string {
	if file == "-" {
		return "standard input"
	}
	return file
}

// waitFor lets Ctrl-C end a read that nothing else can end. The reader is
// left behind; the process is about to end.
func waitFor(ctx context.Context, read func() ([]byte, error)) ([]byte, error) {
	type result struct {
		raw []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		raw, err := read()
		done <- result{raw, err}
	}()
	select {
	case r := <-done:
		return r.raw, r.err
	case <-ctx.Done():
		return nil, errors.New("interrupted; nothing was sent")
	}
}

// wipingBuffer overwrites the pieces that it outgrew.
type wipingBuffer struct{ b []byte }

func (w *wipingBuffer) Write(p []byte) (int, error) {
	if need := len(w.b) + len(p); need > cap(w.b) {
		grown := make([]byte, len(w.b), max(2*need, 512))
		copy(grown, w.b)
		clear(w.b)
		w.b = grown
	}
	w.b = append(w.b, p...)
	return len(p), nil
}

func (w *wipingBuffer) wipe() { clear(w.b[:cap(w.b)]) }

// plainFault is the text of an error for the command line: kinds are for the
// wire.
func plainFault(err error) string {
	var f *fault.Error
	if errors.As(err, &f) {
		return f.Message
	}
	return err.Error()
}

// wipeValues overwrites every plaintext below v.
func wipeValues(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return
		}
		switch plain := v.Interface().(type) {
		case *wire.Value:
			plain.Wipe()
		case *wire.Text:
			plain.Wipe()
		case *wire.Object:
			plain.Wipe()
		default:
			wipeValues(v.Elem())
		}
	case reflect.Struct:
		if v.Type().PkgPath() != reflect.TypeFor[wire.Page]().PkgPath() {
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				wipeValues(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			wipeValues(v.Index(i))
		}
	}
}
