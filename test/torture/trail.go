package torture

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/strongroom/strongroom/audit"
)

// told is an answer that a client got, in the words that its event must have.
type told struct {
	event, path, code string
	found             bool
}

// witness remembers every answer of a run, until the trails are read.
type witness struct {
	answers map[string]*told
	twice   []string
}

func newWitness() *witness { return &witness{answers: map[string]*told{}} }

var events = map[kind]string{
	put: "secrets.put_value", get: "secrets.get_value", getOne: "secrets.get_value", describe: "secrets.describe",
	activate: "secrets.label_version", destroy: "secrets.destroy_version", disable: "secrets.disable_version", enable: "secrets.enable_version",
	revoke: "iam.revoke_token",
}

// remember takes the answers of an object's history. An operation that was
// refused after more than one attempt has an answer too; its code is no longer
// known.
func (w *witness) remember(o *object) {
	for i, did := range o.ops {
		if did.RequestID == "" || did.Code == "Unauthenticated" {
			continue // who is not known has another event
		}
		t := &told{event: events[did.Kind], code: did.Code}
		switch {
		case o.class == "key" && did.Kind == use:
			t.event = "kms." + did.Token
		case o.class == "key" && did.Kind == put:
			t.event = "kms.create_key"
		case o.class == "key":
			t.event = "kms." + string(did.Kind) + "_key"
		case o.class == "token" && did.Kind == use:
			t.event = "iam.who_am_i"
		case o.class == "token" && did.Kind == put:
			t.event = "iam.create_token"
		case o.class != "token":
			t.path = o.name
			if i == 0 {
				t.event = "secrets.create"
			}
		}
		if w.answers[did.RequestID] != nil {
			w.twice = append(w.twice, did.RequestID)
		}
		w.answers[did.RequestID] = t
	}
}

// read verifies a trail whole and looks for the answers in it. The node that
// wrote it must not run.
func (w *witness) read(dir string) error {
	if _, err := audit.Verify(dir); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "audit-*.jsonl"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := w.readFile(file); err != nil {
			return err
		}
	}
	return nil
}

func (w *witness) readFile(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct{ RequestID, Event, Outcome, Code, Path string }
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		t := w.answers[e.RequestID]
		if t == nil || t.event != e.Event || t.path != "" && t.path != e.Path {
			continue
		}
		if t.code == unknown && e.Code != "" || t.code == e.Code {
			t.found = true
		}
	}
	return lines.Err()
}

// missing are the answers without an event.
func (w *witness) missing() []string {
	var out []string
	for id, t := range w.answers {
		if !t.found {
			out = append(out, fmt.Sprintf("answered without its event: %s %s %s, code %q", id, t.event, t.path, t.code))
		}
	}
	for _, id := range w.twice {
		out = append(out, "a request id was given twice: "+id)
	}
	return out
}
