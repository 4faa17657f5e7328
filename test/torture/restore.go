package torture

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// restore starts the cluster anew from a backup that was saved when nobody
// wrote any more, on empty data folders, and answers what is not as it was.
// Every promise about what is kept and what is gone holds across it.
func (l *Lab) restore(file string, objects []*object) ([]string, error) {
	for _, n := range l.members() {
		n.kill()
		data := filepath.Join(n.disk, "data")
		if err := errors.Join(os.RemoveAll(data), os.Mkdir(data, 0o700)); err != nil {
			return nil, err
		}
	}
	if _, err := l.try("snapshot", "restore", file, "--bootstrap", "--config", l.node(1).config()); err != nil {
		return nil, err
	}
	if err := each(l.members(), (*node).start); err != nil {
		return nil, err
	}
	l.awaitReady()
	var wrong []string
	for _, o := range objects {
		found, err := l.asBefore(o)
		if err != nil {
			return nil, err
		}
		for _, text := range found {
			wrong = append(wrong, fmt.Sprintf("after the restore, %s %s: %s", o.class, o.name, text))
		}
	}
	return wrong, nil
}

// asBefore asks the restored cluster about an object, and holds its answers
// against the history of the time before.
func (l *Lab) asBefore(o *object) ([]string, error) {
	c := newClient(l, 0, 0, time.Now())
	after := func(did op, a answer) op {
		// They come after everything, by whatever clock.
		did.Client, did.Node, did.Code, did.Call, did.Return = -1, a.node, a.code, never-2, never-1
		return did
	}
	switch o.class {
	case "key":
		return nil, nil // its state is in no history that has an end
	case "token":
		a, err := c.insist(o.value, "iam/whoAmI", `{}`)
		if err != nil {
			return nil, err
		}
		return checkToken(append(slices.Clone(o.ops), after(op{Kind: use}, a))), nil
	}
	history, err := l.history(o.name)
	if err != nil {
		return nil, err
	}
	ops := slices.Clone(o.ops)
	for number := max(1, len(history)-20); number <= len(history); number++ {
		a, err := c.insist(l.token, "secrets/getSecretValue", fmt.Sprintf(`{"path":%q,"version":%d}`, o.name, number))
		if err != nil {
			return nil, err
		}
		did := after(op{Kind: getOne, Version: number}, a)
		if a.code == "" {
			var got struct{ Value []byte }
			if err := json.Unmarshal(a.body, &got); err != nil {
				return nil, err
			}
			did.Value = string(got.Value[min(len(mark), len(got.Value)):])
		}
		ops = append(ops, did)
	}
	return checkSecret(ops, history), nil
}
