package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/client"
	"github.com/strongroom/strongroom/internal/fault"
)

// rotateEvery is how often who has moved is asked anew.
const rotateEvery = time.Second

// rotateForm is a rotation in one command: a new version, which consumers move
// to, and with --wait the end of the old one once nobody holds it any more.
func rotateForm() opForm {
	f := withExample(short("rotate", "secrets", "generateSecret", "path"), `  strongroom secret rotate /app/dev/web/db-password --wait             # a new random password
  strongroom secret rotate /app/dev/web/api-key --value-file - --wait   # a value that somebody else made
  strongroom secret rotate /app/dev/web/db-password --wait --wait-for 1h`)
	f.short = "Make a new version current, wait until all consumers have moved, destroy the old one"
	f.free = []string{"kind"}
	r := &rotation{}
	f.extra = func(cmd *cobra.Command) {
		cmd.Flags().BoolVar(&r.wait, "wait", false, "wait until nobody holds the old version any more, then destroy it")
		cmd.Flags().DurationVar(&r.waitFor, "wait-for", 0, "with --wait: for how long (default: until they have moved)")
		cmd.Flags().StringVar(&r.file, "value-file", "", "file with the new value, - for standard input (default: the server makes one)")
	}
	f.send = r.run
	f.show = func(s *session, _ any) error { return nil } // what happened was told as it did
	return f
}

type rotation struct {
	wait    bool
	waitFor time.Duration
	file    string
}

func (r *rotation) run(cmd *cobra.Command, s *session, req, resp any) error {
	ctx, made := cmd.Context(), req.(*wire.GenerateSecretRequest)
	var before wire.DescribeSecretResponse
	if err := s.Do(ctx, "secrets", "describeSecret", &wire.PathRequest{Path: made.Path}, &before); err != nil {
		return err
	}
	old := before.CurrentVersion
	if made.ExpectedVersion == nil {
		made.ExpectedVersion = &old // what is waited for must be what was replaced
	}
	answer := resp.(*wire.GenerateSecretResponse)
	var err error
	if before.Rotation != nil && before.Rotation.Kind != "" {
		err = r.bySettings(ctx, s, made, before.Rotation.Kind, answer)
	} else {
		err = r.renew(cmd, s, made, answer)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(s.errOut, "version %d of %s is current\n", answer.Version, printable(made.Path))
	switch {
	case old == 0:
		fmt.Fprintln(s.errOut, "there was no version before it; nothing is to be destroyed")
		return nil
	case !r.wait:
		fmt.Fprintf(s.errOut, "version %d can still be read; strongroom secret consumers %s --version %d --holding shows who may hold it\n", old, printable(made.Path), old)
		return nil
	}
	return r.retire(ctx, s, made.Path, old, answer.Version)
}

// bySettings has the cluster rotate a secret that has settings for it: a
// value that did not come from there would be one that its database does not
// know.
func (r *rotation) bySettings(ctx context.Context, s *session, made *wire.GenerateSecretRequest, kind string, answer *wire.GenerateSecretResponse) error {
	if r.file != "" || made.Kind != "" || made.Length != nil {
		return usagef("the secret is rotated by its settings (%s), which say what its value is; leave out --value-file, --kind and --length", printable(kind))
	}
	var run wire.RotationResponse
	err := s.Do(ctx, "secrets", "rotateSecret", &wire.RotateSecretRequest{Write: made.Write, Path: made.Path, Reason: made.Reason}, &run)
	if err != nil {
		return err
	}
	told := ""
	for {
		var now wire.DescribeSecretResponse
		if err := s.Do(ctx, "secrets", "describeSecret", &wire.PathRequest{Path: made.Path}, &now); err != nil {
			return err
		}
		status := now.Rotation
		switch {
		case status == nil:
			return fmt.Errorf("the settings for rotations of %s were taken away meanwhile", printable(made.Path))
		case status.RotationID != run.RotationID && now.CurrentVersion != *made.ExpectedVersion && status.State == "idle",
			status.RotationID == run.RotationID && status.Step == "tell":
			answer.Path, answer.Version = made.Path, now.CurrentVersion
			return nil
		case status.RotationID != run.RotationID:
			return hintError{
				fmt.Errorf("the rotation did not succeed: %s", printable(status.LastError)),
				fmt.Sprintf("version %d stays current; strongroom secret describe %s has the details", now.CurrentVersion, printable(made.Path)),
			}
		}
		if text := fmt.Sprintf("  %s: step %s %s", printable(kind), printable(status.Step), printable(status.LastError)); text != told {
			fmt.Fprintln(s.errOut, strings.TrimRight(text, " "))
			told = text
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rotateEvery):
		}
	}
}

// renew makes the new version, by the server or from a value that is given.
func (r *rotation) renew(cmd *cobra.Command, s *session, made *wire.GenerateSecretRequest, answer *wire.GenerateSecretResponse) error {
	if r.file == "" {
		if made.Kind == "" {
			made.Kind = "password"
		}
		return s.Do(cmd.Context(), "secrets", "generateSecret", made, answer)
	}
	if made.Kind != "" || made.Length != nil {
		return usagef("--value-file does not go with --kind or --length")
	}
	value, err := (&inputs{cmd: cmd}).value("value-file", r.file)
	if err != nil {
		return err
	}
	defer value.Wipe()
	var put wire.PutSecretValueResponse
	err = s.Do(cmd.Context(), "secrets", "putSecretValue", &wire.PutSecretValueRequest{
		Write: made.Write, Path: made.Path, Value: &wire.Value{Bytes: value}, ExpectedVersion: made.ExpectedVersion, VersionLife: made.VersionLife,
	}, &put)
	if err == nil && put.Unchanged {
		return fmt.Errorf("the value is that of the current version %d; nothing was rotated", put.Version)
	}
	answer.Path, answer.Version, answer.VersionID = put.Path, put.Version, put.VersionID
	return err
}

// retire destroys the old version as soon as the server lets it. The server
// decides: what is shown meanwhile is for people.
func (r *rotation) retire(ctx context.Context, s *session, path string, old, now uint64) error {
	ctx, cancel := ctx, context.CancelFunc(func() {})
	if r.waitFor > 0 {
		ctx, cancel = context.WithTimeout(ctx, r.waitFor)
	}
	defer cancel()
	told := ""
	for {
		var destroyed wire.VersionStateResponse
		err := s.Do(ctx, "secrets", "destroyVersion", &wire.DestroyVersionRequest{
			Path: path, Version: &old, Reason: fmt.Sprintf("rotated to version %d", now),
		}, &destroyed)
		switch {
		case err == nil:
			fmt.Fprintf(s.errOut, "nobody holds version %d any more; it is destroyed\n", old)
			return nil
		case ctx.Err() != nil:
			return r.gaveUp(path, old)
		case !client.IsCode(err, fault.VersionInUse):
			return err
		}
		if text := progress(ctx, s, path, old, now); text != told {
			fmt.Fprintln(s.errOut, text)
			told = text
		}
		select {
		case <-ctx.Done():
			return r.gaveUp(path, old)
		case <-time.After(rotateEvery):
		}
	}
}

func (r *rotation) gaveUp(path string, old uint64) error {
	return hintError{
		fmt.Errorf("version %d of %s may still be in use; it was not destroyed, and the new version stays current", old, printable(path)),
		fmt.Sprintf("strongroom secret consumers %s --version %d --holding shows who holds it; strongroom secret destroy %s --version %d ends it once they have moved", printable(path), old, printable(path), old),
	}
}

// progress says who has moved. Who may not list consumers is told so, once,
// and the rotation goes on.
func progress(ctx context.Context, s *session, path string, old, now uint64) string {
	moved, held, waiting := 0, 0, ""
	cursor := ""
	for {
		var page wire.ListConsumersResponse
		err := s.Do(ctx, "secrets", "listConsumers", &wire.ListConsumersRequest{Path: path, Version: &old, Page: wire.Page{Cursor: cursor}}, &page)
		if err != nil {
			return "  some consumers may still hold it; you may not see which"
		}
		for _, c := range page.Consumers {
			if c.MovedTo != 0 || c.MayHoldUntil == nil || !c.MayHoldUntil.After(time.Now()) {
				moved++
				continue
			}
			if held++; held <= 3 {
				waiting += fmt.Sprintf(", %s until %s", consumerName(c), c.MayHoldUntil.UTC().Format(time.RFC3339))
			}
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	if held == 0 {
		return fmt.Sprintf("  all %d known consumers have moved to %d; what a node handed out last is being collected", moved, now)
	}
	if held > 3 {
		waiting += fmt.Sprintf(", and %d more", held-3)
	}
	return fmt.Sprintf("  %d of %d consumers have moved to version %d; waiting for %s", moved, moved+held, now, waiting[2:])
}

func consumerName(c wire.Consumer) string {
	if c.Instance == "" {
		return printable(c.Principal)
	}
	return printable(c.Principal + "/" + c.Instance)
}
