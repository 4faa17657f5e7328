package fsm_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// The small worlds of the property tests: few names, so that commands meet.
var (
	somePaths      = []string{"/a", "/a/b", "/ab", "/c"}
	someKeys       = []string{defaultKey, keyID(2), keyID(3)}
	somePrincipals = []string{"admin", "svc", "svc-2"}
	somePolicies   = []string{fsm.FullAccess, "reader", "writer"}
	someTokens     = []string{"admin-token", "t1", "t2", "t3"}
	someJobs       = []string{"job-1", "job-2"}
)

// player makes random commands, most of them near what would be accepted.
type player struct {
	*rapid.T
	w *world
}

// pick draws evenly. rapid's own generators prefer small indexes, which is
// good for shrinking and would leave the rare commands out.
func pick[T any](p player, from ...T) T {
	return from[rapid.Custom(func(t *rapid.T) int {
		n := 0
		for range 10 {
			n *= 2
			if rapid.Bool().Draw(t, "bit") {
				n++
			}
		}
		return n % len(from)
	}).Draw(p.T, "pick")]
}

func (p player) path() string { return pick(p, somePaths...) }

// delay is 0 or some time around the bounds of the recovery window.
func (p player) delay() int64 {
	return pick(p, 0, 1000, 1000, day, 7*day-1, 7*day, 8*day, 90*day, 90*day+1)
}

func (p player) due() int64 {
	if d := p.delay(); d != 0 {
		return p.w.now + d
	}
	return 0
}

func (p player) version(s *fsm.Secret) fsm.NewVersion {
	v := newVersion(1, pick(p, someKeys...))
	if s != nil {
		v.Number, v.KeyID = s.Latest+pick(p, uint64(1), 1, 1, 1, 0, 2), s.KeyID
	}
	v.KeyVersion = pick(p, uint32(1), 1, 1, 1, 2)
	if pick(p, true, false) {
		v.ExpiresAt, v.NotifyBefore = p.due(), pick(p, 0, day, day, 7*day)
	}
	if k := p.w.m.State().Key(v.KeyID); k != nil && pick(p, true, true, true, false) {
		v.KeyVersion = k.Current
	}
	return v
}

// keyLife draws a command of the life of keys.
func (p player) keyLife() fsm.Command {
	m, id, to := p.w.meta(), pick(p, someKeys...), pick(p, someKeys...)
	alias := pick(p, "alias/x", "alias/y", "alias/z", names.DefaultAlias)
	current := uint32(1)
	if k := p.w.m.State().Key(id); k != nil {
		current = k.Current
	}
	makers := []func() fsm.Command{
		func() fsm.Command { return fsm.UpdateKey{Meta: m, KeyID: id, SetTags: true} },
		func() fsm.Command { return fsm.CreateAlias{Meta: m, Alias: alias, KeyID: id} },
		func() fsm.Command { return fsm.UpdateAlias{Meta: m, Alias: alias, KeyID: id} },
		func() fsm.Command { return fsm.DeleteAlias{Meta: m, Alias: alias} },
		func() fsm.Command {
			v := keyVersion(id, current+pick(p, uint32(1), 1, 2))
			v.Wrapped.Root = pick(p, p.w.roots().Current.Version, p.w.roots().Current.Version, 1, 2)
			return fsm.RotateKey{Meta: m, KeyID: id, Version: v}
		},
		func() fsm.Command { return fsm.SetKeyRotation{Meta: m, KeyID: id, Period: p.delay()} },
		func() fsm.Command { return fsm.ScheduleKeyDeletion{Meta: m, KeyID: id, DueAt: p.due()} },
		func() fsm.Command { return fsm.CancelKeyDeletion{Meta: m, KeyID: id} },
		func() fsm.Command { return fsm.ReserveSeals{Meta: m, KeyID: id, Version: current, Count: 1 << 31} },
		func() fsm.Command {
			return fsm.RecordKeyUse{Meta: m, Uses: []fsm.KeyUse{{KeyID: id, At: p.w.now - p.delay()}}}
		},
		func() fsm.Command {
			return fsm.RetireKey{Meta: m, KeyID: id, Job: fsm.Job{ID: pick(p, someJobs...), To: to, Rate: 1}}
		},
		func() fsm.Command {
			return fsm.CreateJob{Meta: m, Job: fsm.Job{ID: pick(p, someJobs...), Kind: fsm.JobMigrate, From: id, To: to, Rate: 1}}
		},
		func() fsm.Command {
			return fsm.SetJobState{Meta: m, JobID: pick(p, someJobs...), State: pick(p, fsm.JobPaused, fsm.JobRunning, fsm.JobRunning, fsm.JobFailed, fsm.JobCancelled)}
		},
		p.versionLife, p.versionLife, p.versionLife, p.versionLife,
		p.ruleLife, p.ruleLife, p.anchorLife, p.anchorLife, p.cosignatureLife,
		p.rotationLife, p.rotationLife, p.rotationLife, p.rotationLife, p.rotationLife,
		p.rewrap, p.rewrap, p.rewrap, p.rewrap,
		p.rootLife, p.rootLife, p.rootLife, p.rootLife,
	}
	return pick(p, makers...)()
}

// versionLife draws a command that people give about a version.
func (p player) versionLife() fsm.Command {
	m, path, number := p.w.meta(), p.path(), uint64(pick(p, 1, 1, 2, 3, 4))
	var expected *uint64
	if s := p.w.m.State().Secret(names.Path(path)); s != nil && pick(p, true, false) {
		current := s.Current + pick(p, uint64(0), 0, 1)
		expected = &current
	}
	return pick(p, func() fsm.Command {
		return fsm.SetVersionLabel{Meta: m, Path: path, Version: number, Label: pick(p, "current", "current", "blue", "previous"), Expected: expected}
	}, func() fsm.Command {
		return fsm.RemoveVersionLabel{Meta: m, Path: path, Label: pick(p, "blue", "blue", "current")}
	}, func() fsm.Command {
		return fsm.SetVersionState{Meta: m, Path: path, Version: number, Disable: pick(p, true, false)}
	}, func() fsm.Command {
		c := fsm.NoteExpiry{Meta: m, Path: path, SecretID: "other", Version: number}
		for secret, v := range p.w.m.State().ExpiriesDue(p.w.now) {
			c.Path, c.SecretID, c.Version = string(secret.Path), secret.ID, v.Number
		}
		return c
	}, func() fsm.Command {
		return fsm.UpdateSecret{Meta: m, Path: path, SetTags: true, Tags: map[string]string{"a": pick(p, "1", "2")}}
	})()
}

// rootLife draws a command of the life of the root key.
func (p player) rootLife() fsm.Command {
	m, roots := p.w.meta(), p.w.roots()
	version, job := roots.Current.Version+pick(p, uint32(1), 1, 1, 2), roots.JobID
	switch {
	case pick(p, true, false, false, false):
		return fsm.RemoveRoot{Meta: m, Version: pick(p, uint32(1), 2, 3)}
	case job == "":
		c := p.w.startRotation(version)
		c.Job.ID = fmt.Sprintf("rotation-%d-%d", version, p.w.index)
		return c
	case pick(p, true, false, false, false, false):
		return fsm.SetJobState{Meta: m, JobID: job, State: pick(p, fsm.JobPaused, fsm.JobRunning, fsm.JobFailed, fsm.JobCancelled)}
	case roots.Next != nil:
		return fsm.SwitchRoot{Meta: m, JobID: job, Version: roots.Next.Version}
	}
	c := fsm.RewrapKeys{Meta: m, JobID: job}
	for _, item := range p.w.items(roots.Previous.Version) {
		item.Wrapped.Root = roots.Current.Version
		if pick(p, true, true, false) {
			c.Items = append(c.Items, item)
		}
	}
	return c
}

// rewrap draws a step of a job, or of none.
func (p player) rewrap() fsm.Command {
	c := fsm.RewrapVersions{Meta: p.w.meta(), From: pick(p, someKeys...), To: pick(p, someKeys...), Paths: somePaths}
	if id := pick(p, someJobs...); p.w.m.State().Job(id) != nil {
		job := p.w.m.State().Job(id)
		c.JobID, c.From, c.To = id, job.From, job.To
	}
	for _, path := range somePaths {
		for v := range p.w.m.State().Versions(names.Path(path)) {
			if pick(p, true, true, true, false) {
				c.Items = append(c.Items, fsm.Rewrapped{
					Path: path, Version: v.Number, Old: hashOf(string(v.DataKey)), KeyVersion: 1,
					DataKey: fmt.Appendf(nil, "data key under %s", c.To),
				})
			}
		}
	}
	return c
}

func (p player) createSecret() fsm.Command {
	c := fsm.CreateSecret{
		Meta: p.w.meta(), Path: p.path(), SecretID: fmt.Sprint("s", p.w.index), KeyID: pick(p, someKeys...),
		Tags: map[string]string{"b": "2", "a": "1"}, ReuseRetired: pick(p, true, false),
	}
	if pick(p, true, false) {
		v := p.version(nil)
		v.KeyID = c.KeyID
		c.First = &v
	}
	return c
}

func (p player) putVersion() fsm.Command {
	path := p.path()
	c := fsm.PutVersion{Meta: p.w.meta(), Path: path, SecretID: "none", Activate: pick(p, true, true, false)}
	s := p.w.m.State().Secret(names.Path(path))
	c.Version = p.version(s)
	if s != nil {
		c.SecretID = pick(p, s.ID, s.ID, s.ID, "other")
		if pick(p, true, false) {
			expected := pick(p, s.Current, s.Current, s.Latest, 0)
			c.Expected = &expected
		}
	}
	return c
}

// copySecret draws a copy, of all live versions of its source but for
// mistakes.
func (p player) copySecret() fsm.Command {
	from := p.path()
	c := fsm.CopySecret{
		Meta: p.w.meta(), Path: p.path(), SecretID: fmt.Sprint("s", p.w.index), KeyID: pick(p, someKeys...),
		ReuseRetired: pick(p, true, true, false), From: from,
	}
	if s := p.w.m.State().Secret(names.Path(from)); s != nil {
		c.FromID = pick(p, s.ID, s.ID, s.ID, "other")
	}
	if pick(p, true, true, true, false) {
		c.Versions = p.w.copies(from)
	}
	for i := range c.Versions {
		if k := p.w.m.State().Key(c.KeyID); k != nil {
			c.Versions[i].KeyVersion = k.Current
		}
	}
	return c
}

func (p player) number(path string) uint64 {
	if s := p.w.m.State().Secret(names.Path(path)); s != nil && s.Latest > 0 {
		return s.Latest - min(s.Latest-1, pick(p, uint64(0), 1, 1, 2, 3))
	}
	return 1
}

// command draws one of all kinds.
func (p player) command() fsm.Command {
	m, path := p.w.meta(), p.path()
	policy, principal, id := pick(p, somePolicies...), pick(p, somePrincipals...), pick(p, someTokens...)
	statements := []fsm.Statement{{Effect: "allow", Actions: []string{"secrets:getSecretValue"}, Paths: []string{"/a/**"}}}
	makers := []func() fsm.Command{
		p.createSecret, p.createSecret, p.createSecret,
		p.copySecret, p.copySecret, p.copySecret,
		p.putVersion, p.putVersion, p.putVersion, p.putVersion, p.putVersion, p.putVersion, p.putVersion, p.putVersion,
		p.destroyVersion, p.destroyVersion, p.destroyVersion,
		p.ledger, p.ledger, p.ledger,
		p.trusts, p.trusts,
		func() fsm.Command { return fsm.CancelDestroy{Meta: m, Path: path, Version: p.number(path)} },
		func() fsm.Command { return fsm.CancelDestroy{Meta: m, Path: path, Version: p.number(path)} },
		func() fsm.Command { return fsm.DeleteSecret{Meta: m, Path: path, PurgeAt: p.due()} },
		func() fsm.Command { return fsm.RestoreSecret{Meta: m, Path: path} },
		func() fsm.Command {
			return fsm.CreateKey{Meta: m, Key: key(pick(p, someKeys...), pick(p, "alias/x", "alias/y"))}
		},
		func() fsm.Command {
			return fsm.SetKeyState{Meta: m, KeyID: pick(p, someKeys...), State: pick(p, fsm.KeyActive, fsm.KeyDisabled)}
		},
		func() fsm.Command {
			return fsm.CreatePrincipal{Meta: m, Principal: fsm.Principal{Name: principal, Kind: "user", Policies: []string{policy}}}
		},
		func() fsm.Command { return fsm.DeletePrincipal{Meta: m, Name: principal} },
		func() fsm.Command {
			return fsm.CreateToken{Meta: m, Token: token(id, principal, p.w.now+max(1000, p.delay()))}
		},
		func() fsm.Command { return fsm.RevokeToken{Meta: m, TokenID: id} },
		p.credential, p.credential, p.credential,
		func() fsm.Command { return fsm.PutPolicy{Meta: m, Name: policy, Statements: statements} },
		func() fsm.Command { return fsm.DeletePolicy{Meta: m, Name: policy} },
		func() fsm.Command { return fsm.AttachPolicy{Meta: m, Policy: policy, Principal: principal} },
		func() fsm.Command { return fsm.DetachPolicy{Meta: m, Policy: policy, Principal: principal} },
		func() fsm.Command {
			return fsm.PutAccessPolicy{Meta: m, Policy: fsm.AccessPolicy{Name: policy, Paths: []string{path}}}
		},
		func() fsm.Command { return fsm.DeleteAccessPolicy{Meta: m, Name: policy} },
		p.groupLife, p.groupLife, p.groupLife,
		p.approvalLife, p.approvalLife,
		p.glassLife, p.glassLife, p.glassLife, p.glassLife,
		p.sweep,
		p.keyLife, p.keyLife, p.keyLife, p.keyLife, p.keyLife, p.keyLife, p.keyLife, p.keyLife,
	}
	return pick(p, makers...)()
}

// session answers the one that goes on, most of the time.
func (p player) session() uint64 {
	open := uint64(0)
	for s := range p.w.m.State().Sessions() {
		open = s.Number
	}
	return pick(p, open, open, open, open, open, 1)
}

func (p player) destroyVersion() fsm.Command {
	path := p.path()
	return fsm.DestroyVersion{
		Meta: p.w.meta(), Path: path, Version: p.number(path), DueAt: p.due(), Session: p.session(),
		Observed: p.observations(0, 0, 1), Force: pick(p, true, false, false), Reason: pick(p, "", "leaked"),
	}
}

func (p player) sweep() fsm.Command {
	c := fsm.Sweep{Meta: p.w.meta(), Limit: pick(p, 1, 2, 1000), Session: p.session()}
	if pick(p, true, true, true, false) {
		c.Closed = p.w.m.State().DueDestructions(p.w.now, c.Limit)
	}
	return c
}

// ledger draws a command about consumers.
func (p player) ledger() fsm.Command {
	m := p.w.meta()
	return pick(p, func() fsm.Command {
		return fsm.Observe{Meta: m, Session: p.session(), Sequence: pick(p, uint64(1), 2, 3), Observations: p.observations(1, 2, 3)}
	}, func() fsm.Command {
		return fsm.OpenLedger{Meta: m, Node: pick(p, "n1", "n2"), Sequence: 1}
	}, func() fsm.Command {
		c := fsm.SettleLedger{Meta: m, Session: p.session(), Lost: pick(p, true, false, false)}
		for s := range p.w.m.State().Sessions() {
			c.Session = s.Number // the oldest
			break
		}
		return c
	})()
}

func (p player) observations(n ...int) []fsm.Observation {
	var out []fsm.Observation
	for range pick(p, n...) {
		path := p.path()
		o := fsm.Observation{
			Path: path, Version: p.number(path), Principal: pick(p, somePrincipals...), Instance: pick(p, "", "i1", "i2"), Session: p.session(),
		}
		if pick(p, true, true, false) {
			o.First, o.Last, o.Stamp, o.Until = p.w.now, p.w.now, p.w.now*1000, p.w.now+pick(p, 0, 500, day)
		}
		if pick(p, true, false) {
			o.First, o.Said, o.SaidAt = p.w.now, p.w.now*1000+pick(p, int64(0), 1), p.w.now
		}
		out = append(out, o)
	}
	return out
}

// tokened gives some commands a client token out of few, so that retries,
// and tokens used for two requests, happen.
func (p player) tokened(c fsm.Command) fsm.Command {
	put, ok := c.(fsm.PutVersion)
	if !ok || pick(p, true, false) {
		return c
	}
	put.Meta.ClientToken = pick(p, "r1", "r2", "r3")
	put.Meta.Operation, put.Meta.RequestHash = "secrets/putSecretValue", hashOf(put.Path)
	return put
}

func TestInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := player{t, newWorld(t)}
		twin := replay(t, p.w.log) // a second replica, one entry behind at most
		var cut []byte
		cutAt := 0
		answered := map[string]answer{}
		for range rapid.IntRange(60, 150).Draw(t, "commands") {
			p.w.now += pick(p, 0, 0, 0, 0, 0, 0, 0, 0, 0, 500, 500, 500, day/2, 8*day)
			c := p.tokened(p.command())
			before := p.w.m.State()
			result := p.w.do(c)
			checkRetry(t, answered, before, p.w.m.State(), c, result)
			checkRuled(t, before, p.w.m.State(), c, result)
			checkInvariants(t, p.w.m.State())
			require.GreaterOrEqual(t, p.w.m.State().Time(), before.Time())

			again, err := twin.Apply(p.w.index, p.w.log[p.w.index-1])
			require.NoError(t, err)
			require.Equal(t, result, again)
			require.Equal(t, p.w.m.State().Hash(), twin.State().Hash())
			if pick(p, true, false, false, false, false) {
				cut, cutAt = snapshot(t, p.w.m), len(p.w.log)
			}
		}
		end := fsm.Dump(p.w.m.State())
		require.Equal(t, end, fsm.Dump(replay(t, p.w.log).State()), "the log again gives the same state")

		// What was rebuilt from records equals what grew command by command.
		restored := fsm.New()
		require.NoError(t, restored.Restore(bytes.NewReader(snapshot(t, p.w.m))))
		require.Equal(t, end, fsm.Dump(restored.State()))

		if cut != nil {
			require.NoError(t, restored.Restore(bytes.NewReader(cut)))
			for i, b := range p.w.log[cutAt:] {
				_, err := restored.Apply(uint64(cutAt+i)+1, b)
				require.NoError(t, err)
			}
			require.Equal(t, end, fsm.Dump(restored.State()), "a snapshot and the rest of the log give the same state")
		}
	})
}

// answer is what a write with a client token was answered first, and when.
type answer struct {
	fsm.Result
	at int64
}

// checkRetry: within a day, one client token makes one version, and is
// answered the same each time; a day later it is new.
func checkRetry(t tester, answered map[string]answer, before, after *fsm.State, c fsm.Command, result fsm.Result) {
	put, ok := c.(fsm.PutVersion)
	if !ok || put.Meta.ClientToken == "" {
		require.False(t, result.Replayed)
		return
	}
	first, seen := answered[put.Meta.ClientToken]
	if !seen || first.at+day <= after.Time() {
		require.False(t, result.Replayed)
		if result.Refused == nil {
			answered[put.Meta.ClientToken] = answer{result, after.Time()}
		}
		return
	}
	path := names.Path(put.Path)
	require.Same(t, before.Secret(path), after.Secret(path), "a retry changed the secret")
	if put.Path != first.Path {
		require.Equal(t, string(fault.Conflict), result.Refused.Code, "another request")
		return
	}
	first.Replayed = true
	require.Equal(t, first.Result, result)
}

// checkRoots: all material is under a root that the HSMs serve with, and the
// index of it is exact.
func checkRoots(t tester, s *fsm.State) {
	roots, under := s.Roots(), map[uint32]uint64{}
	for k := range s.Keys("") {
		for _, piece := range k.Pieces() {
			under[piece.Root]++
		}
	}
	if k := s.FingerprintKey(); k != nil {
		under[k.Root]++
	}
	for version, n := range under {
		require.True(t, version == roots.Current.Version || roots.Previous != nil && version == roots.Previous.Version, "%d pieces are under root v%d, which is gone", n, version)
	}
	for version := range roots.Current.Version + 2 {
		require.Equal(t, under[version], s.MaterialUnder(version))
	}
	if roots.Next != nil {
		require.Zero(t, under[roots.Next.Version], "nothing may be under a root that not every HSM has")
	}
	require.Equal(t, roots.Next != nil || roots.Previous != nil, roots.JobID != "")
}

func checkInvariants(t tester, s *fsm.State) {
	bound := map[string]map[names.Path]int{}
	chosen := map[string][]names.Path{}
	untold, soon := 0, 0
	for secret := range s.Secrets("/") {
		checkSecret(t, s, secret, bound, &untold, &soon)
		if secret.State != fsm.SecretPurged {
			chosen[secret.KeyID] = append(chosen[secret.KeyID], secret.Path)
		}
	}
	for range s.ExpiriesDue(s.Time()) {
		untold--
	}
	require.Zero(t, untold, "what is due to be told is found")
	require.Equal(t, soon, s.ExpiringSoon(s.Time()))
	checkChanges(t, s)
	checkTags(t, s)
	checkRotations(t, s)
	for job := range s.Jobs("") {
		require.LessOrEqual(t, job.Done, job.Total)
		require.Equal(t, job.State == fsm.JobDone || job.State == fsm.JobCancelled, job.FinishedAt != 0)
	}
	for k := range s.Keys("") {
		counted := map[names.Path]int{}
		for path, live := range s.BoundPaths(k.ID, "") {
			counted[path] = live
		}
		if len(counted)+len(bound[k.ID]) > 0 {
			require.Equal(t, bound[k.ID], counted, "bindings of key %s", k.ID)
		}
		require.EqualValues(t, len(counted), s.BoundCount(k.ID))
		require.Equal(t, chosen[k.ID], slices.Collect(s.ChosenPaths(k.ID, "")))
		if fsm.RuleFor(k.State, fsm.KeyOpen).Refused != "" {
			require.Empty(t, counted, "a key that is %s with live versions", k.State)
		}
		if k.EmptyIndex != 0 {
			require.Empty(t, counted, "the statement that nothing is bound is false")
		}
		require.Equal(t, k.State == fsm.KeyPendingDeletion, k.DeletionAt != 0)
		if k.State != fsm.KeyDestroyed {
			require.Len(t, k.Versions, int(k.Current))
			require.NotEmpty(t, k.Versions[k.Current-1].Wrapped.Blob)
		}
		for _, alias := range k.Aliases {
			require.Same(t, k, s.KeyByRef(alias))
		}
		for _, v := range k.Versions {
			require.LessOrEqual(t, v.Reserved, fsm.MaxSeals)
			require.True(t, k.State != fsm.KeyDestroyed || len(v.Wrapped.Blob) == 0, "material of a destroyed key")
		}
	}
	checkRoots(t, s)
	checkKeeping(t, s)
	full := 0
	for p := range s.Principals("") {
		if slices.Contains(p.Policies, fsm.FullAccess) {
			full++
		}
		for _, policy := range p.Policies {
			require.NotNil(t, s.Policy(policy), "a policy was deleted while attached")
		}
	}
	require.Positive(t, full, "nobody has full access")
	checkGroups(t, s)
	checkStored(t, s)
	checkTrusts(t, s)
	checkApprovals(t, s)
	checkGlass(t, s)
	for k := range s.Tokens("", "") {
		require.NotNil(t, s.Principal(k.Principal), "a token without its principal")
		require.Same(t, k, s.TokenByHash(k.Hash))
	}
	checkCredentials(t, s)
}

func checkSecret(t tester, s *fsm.State, secret *fsm.Secret, bound map[string]map[names.Path]int, untold, soon *int) {
	next := secret.Latest
	for v := range s.Versions(secret.Path) {
		require.LessOrEqual(t, len(v.Changes), 50)
		require.True(t, v.NotifiedAt == 0 || v.NotifiedAt >= v.ExpiresAt-v.NotifyBefore, "told too early")
		require.Equal(t, next, v.Number, "version numbers are dense")
		next--
		if v.State == fsm.VersionDestroyed {
			require.Empty(t, v.Sealed)
			require.Empty(t, v.DataKey)
			require.Empty(t, v.Fingerprint)
			require.NotZero(t, v.DestroyedAt)
			continue
		}
		require.NotEqual(t, fsm.SecretPurged, secret.State, "a live version of a purged secret")
		require.NotEmpty(t, v.Sealed)
		if bound[v.KeyID] == nil {
			bound[v.KeyID] = map[names.Path]int{}
		}
		bound[v.KeyID][secret.Path]++
		if open := v.State == fsm.VersionActive && secret.State == fsm.SecretActive && v.NotifyBefore != 0; open && v.ExpiresAt-v.NotifyBefore <= s.Time() {
			if v.NotifiedAt == 0 {
				*untold++
			}
			if v.ExpiresAt > s.Time() {
				*soon++
			}
		}
	}
	require.Zero(t, next, "version numbers start at 1")
	for name, number := range secret.Labels {
		v := s.Version(secret.Path, number)
		require.NotNil(t, v, "label %s", name)
		require.NotEqual(t, fsm.VersionDestroyed, v.State, "label %s on a destroyed version", name)
	}
	require.Equal(t, secret.Current, secret.Labels["current"])
	if secret.Current != 0 {
		require.Contains(t, []fsm.VersionState{fsm.VersionActive, fsm.VersionDisabled}, s.Version(secret.Path, secret.Current).State)
	}
}

// checkChanges: each secret is in the order of changes once, at its last one.
func checkChanges(t tester, s *fsm.State) {
	var order []uint64
	for secret := range s.ChangesAfter(0) {
		require.Same(t, s.Secret(secret.Path), secret)
		require.NotZero(t, secret.Changed)
		order = append(order, secret.Changed)
	}
	require.True(t, slices.IsSorted(order))
	require.Len(t, order, len(slices.Collect(s.Secrets("/"))))
	for i, index := range order {
		rest := len(slices.Collect(s.ChangesAfter(index)))
		require.LessOrEqual(t, rest, len(order)-i-1)
	}
}
