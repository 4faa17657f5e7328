package torture

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// plan is a whole run.
type plan struct {
	seed    uint64
	steps   []step
	until   time.Duration // when no more step is begun; 0: all are done
	clients int
	pace    time.Duration
	diskMiB int
}

// torture does what a plan says, and fails the test if an answer broke a
// promise.
func torture(t *testing.T, binary string, p plan) {
	t.Helper()
	r := &report{plan: p, began: time.Now(), faults: map[string]int{}, kinds: map[string]int{}, witness: newWitness()}
	l := newLab(t, binary, labShape{clients: p.clients, spares: spares(p.steps), diskMiB: p.diskMiB})
	// Before everything else that a failure leaves behind, while it is there.
	t.Cleanup(func() {
		if t.Failed() {
			r.save(t, l)
		}
	})
	d := startLoad(t, l, p.clients, p.pace, p.seed)
	awaitWork(t, l, d, 100)
	for i, s := range p.steps {
		if p.until > 0 && time.Since(r.began) > p.until {
			break
		}
		r.episode(t, l, d, i, s)
		r.judge(t, l, d, true)
	}
	d.halt()
	r.end(t, l, d)
}

// awaitWork waits for n more operations.
func awaitWork(t testing.TB, l *Lab, d *load, n int64) {
	t.Helper()
	want := d.served.Load() + n
	require.NoError(t, l.await(fmt.Sprintf("%d more operations", n), func() bool { return d.served.Load() >= want }))
}

// episode is one fault: it comes, is seen to work, stays, and goes; then the
// cluster must be whole again.
func (r *report) episode(t *testing.T, l *Lab, d *load, i int, s step) {
	t.Helper()
	began, before := time.Now(), d.served.Load()
	r.steps = append(r.steps, s)
	f, err := l.begin(s)
	require.NoError(t, err, "fault %d, %v, cannot be made", i, s)
	if f.verify != nil {
		err = f.verify()
	}
	armed := time.Since(began)
	if err == nil {
		// A schedule of faults is one of times.
		<-time.After(s.Hold)
	}
	undone := f.disarm()
	require.NoError(t, err, "fault %d, %v, had no effect", i, s)
	require.NoError(t, undone, "fault %d, %v, cannot be taken back", i, s)
	healed, during := d.clients[0].now(), d.served.Load()-before
	l.awaitReady()
	require.NoError(t, l.await("a first success", func() bool { return d.lastCall.Load() > healed }))
	back := time.Duration(d.clients[0].now() - healed)
	awaitWork(t, l, d, 30)
	r.faults[s.Family]++
	r.recovered = append(r.recovered, back)
	t.Logf("%3d  %-60v armed %6.2f s, %4d operations meanwhile, whole again %5.2f s after its end", i, s, armed.Seconds(), during, back.Seconds())
}

// judge checks every object whose history is whole; at the end that is each.
// It answers them.
func (r *report) judge(t *testing.T, l *Lab, d *load, settled bool) []*object {
	t.Helper()
	judged := d.take(settled)
	for _, o := range judged {
		wrong, err := r.check(l, d, o)
		require.NoError(t, err)
		if len(wrong) > 0 {
			r.kept = append(r.kept, o)
			wrong = wrong[:min(len(wrong), 20)]
			text, err := json.Marshal(wrong)
			require.NoError(t, err)
			require.Empty(t, wrong, "%s %s broke its promises: %s", o.class, o.name, text)
		}
		r.witness.remember(o)
	}
	d.mu.Lock()
	strange := slices.Clone(d.strange)
	d.mu.Unlock()
	require.Empty(t, strange, "clients were told this")
	return judged
}

// check holds one object against its promises.
func (r *report) check(l *Lab, d *load, o *object) (wrong []string, err error) {
	for _, did := range o.ops {
		r.kinds[string(did.Kind)]++
		if did.Code == unknown {
			r.unknown++
		}
	}
	r.operations += len(o.ops)
	r.objects++
	switch o.class {
	case "token":
		return checkToken(o.ops), nil
	case "key":
		return r.model(linearizable(o.ops[1:], true, stepKey)), nil
	}
	history, err := l.history(o.name)
	if err != nil {
		return nil, err
	}
	wrong = checkSecret(o.ops, history)
	if o.class == "small" {
		wrong = append(wrong, r.model(linearizable(resolve(o.ops, history), secretState{}, stepSecret))...)
	}
	return wrong, nil
}

func (r *report) model(v verdict) []string {
	switch v {
	case wrong:
		return []string{"porcupine finds no order of its operations that is allowed"}
	case undecided:
		r.undecided++
	case right:
		r.linear++
	}
	return nil
}

// history is what the cluster says of the versions of a secret.
func (l *Lab) history(path string) ([]version, error) {
	var out []version
	for cursor := ""; ; {
		var page struct {
			Versions   []version
			NextCursor string
		}
		if err := l.request("secrets/listSecretVersions", fmt.Sprintf(`{"path":%q,"limit":1000,"cursor":%q}`, path, cursor), &page); err != nil {
			return nil, err
		}
		out = append(out, page.Versions...)
		if cursor = page.NextCursor; cursor == "" {
			return out, nil
		}
	}
}

// end checks what is only known when nobody asks any more.
func (r *report) end(t *testing.T, l *Lab, d *load) {
	t.Helper()
	l.awaitReady()
	last := r.judge(t, l, d, false)
	backup := filepath.Join(l.dir, "last.age")
	require.NoError(t, l.await("a backup", func() bool { return l.save(backup) == nil }))
	equal, err := l.equalReplicas()
	require.NoError(t, err)
	t.Log(equal)
	for _, n := range l.members() {
		require.NoError(t, stopInOrder(l, n))
	}
	for _, n := range l.nodes[:l.spare-1] {
		require.NoError(t, r.witness.read(n.trail()))
	}
	missing := r.witness.missing()
	require.Empty(t, missing[:min(len(missing), 20)], "%d answers", len(missing))
	wrong, err := l.restore(backup, last)
	require.NoError(t, err)
	require.Empty(t, wrong)
	t.Logf("%d objects are as before after a restore", len(last))
	r.print(t)
}

func stopInOrder(l *Lab, n *node) error {
	f, err := l.stopNode(n)
	if err != nil {
		return err
	}
	return f.verify()
}
