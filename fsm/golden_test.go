package fsm_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
)

// Golden files are promises to logs and snapshots that exist: -update writes
// those that are missing and never rewrites one. A change that turns one red
// needs a new format version, not a new file.
var update = flag.Bool("update", false, "write golden files that are missing")

const (
	commandFolder  = "testdata/commands"
	snapshotGolden = "testdata/snapshots/v1/story.snapshot"
	hashGolden     = "testdata/snapshots/v1/story.hash"

	keySnapshotGolden = "testdata/snapshots/v1/keys.snapshot"
	keyHashGolden     = "testdata/snapshots/v1/keys.hash"

	rootSnapshotGolden = "testdata/snapshots/v1/roots.snapshot"
	rootHashGolden     = "testdata/snapshots/v1/roots.hash"

	copySnapshotGolden = "testdata/snapshots/v1/copies.snapshot"

	ruleSnapshotGolden  = "testdata/snapshots/v1/rules.snapshot"
	groupSnapshotGolden = "testdata/snapshots/v1/groups.snapshot"
	limitSnapshotGolden = "testdata/snapshots/v1/limits.snapshot"
	ruleHashGolden      = "testdata/snapshots/v1/rules.hash"

	credentialSnapshotGolden = "testdata/snapshots/v1/credentials.snapshot"
	credentialHashGolden     = "testdata/snapshots/v1/credentials.hash"
)

// golden answers the content of a golden file, made from current if it is
// missing and -update is given.
func golden(t *testing.T, path string, current []byte) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, current, 0o600))
		return current
	}
	require.NoError(t, err, "run: go test ./fsm -update")
	return b
}

// story is a log that holds every kind, most of their fields, some refusals
// and some retries. It is what the golden files were made from: append to a
// new story for what is new, leave this one alone.
func story() []fsm.Command {
	at := start
	meta := func() fsm.Meta {
		at += 1000
		return fsm.Meta{Time: at, Principal: "admin", RequestID: fmt.Sprintf("request-%d", at)}
	}
	retry := func(operation, token string) fsm.Meta {
		m := meta()
		m.Operation, m.ClientToken, m.RequestHash = operation, token, hashOf(token)
		return m
	}
	first := newVersion(1, defaultKey)
	first.ExpiresAt = start + 300*day
	one, five := uint64(1), uint64(5)
	put := func(path, id string, n uint64, m fsm.Meta) fsm.PutVersion {
		return fsm.PutVersion{Meta: m, Path: path, SecretID: id, Version: newVersion(n, defaultKey), Activate: true}
	}
	expecting := put("/app/prod/pay/db", "s1", 2, retry("secrets/putSecretValue", "token-2"))
	expecting.Expected = &one
	wrong := put("/app/prod/pay/db", "s1", 3, meta())
	wrong.Expected = &five
	reader := []fsm.Statement{
		{Effect: "allow", Actions: []string{"secrets:getSecretValue"}, Roles: []string{"secrets-read-access"}, Paths: []string{"/app/**"}},
		{Effect: "deny", Actions: []string{"kms:decrypt"}, Keys: []string{"*", "alias/default"}},
	}
	return []fsm.Command{
		genesis(start),
		fsm.CreateKey{Meta: retry("kms/createKey", "token-1"), Key: key(keyID(2), "alias/payments")},
		fsm.CreateSecret{Meta: meta(), Path: "/app/prod/pay/db", SecretID: "s1", Description: "database", Tags: map[string]string{"owner": "pay", "tier": "1"}, KeyID: defaultKey, First: &first},
		expecting,
		expecting, // a retry
		wrong,     // refused
		put("/app/prod/pay/db", "s1", 3, meta()),
		put("/app/prod/pay/db", "s1", 4, meta()),
		fsm.SetKeyState{Meta: meta(), KeyID: defaultKey, State: fsm.KeyDisabled}, // refused
		fsm.SetKeyState{Meta: meta(), KeyID: keyID(2), State: fsm.KeyDisabled},
		fsm.DestroyVersion{Meta: meta(), Path: "/app/prod/pay/db", Version: 1, Reason: "leaked"},
		fsm.DestroyVersion{Meta: meta(), Path: "/app/prod/pay/db", Version: 2, Reason: "old", DueAt: start + 5*day},
		fsm.CancelDestroy{Meta: meta(), Path: "/app/prod/pay/db", Version: 2},
		fsm.DestroyVersion{Meta: meta(), Path: "/app/prod/pay/db", Version: 3, Reason: "old", DueAt: start + 50*day},
		fsm.CreateSecret{Meta: meta(), Path: "/app/prod/pay/api", SecretID: "s2", KeyID: defaultKey, First: &first},
		fsm.DeleteSecret{Meta: meta(), Path: "/app/prod/pay/api", Reason: "moved"},
		fsm.CreateSecret{Meta: meta(), Path: "/app/prod/pay/api", SecretID: "s3", KeyID: defaultKey, ReuseRetired: true, First: &first},
		fsm.DeleteSecret{Meta: meta(), Path: "/app/prod/pay/api", Reason: "moved again", PurgeAt: start + 30*day},
		fsm.RestoreSecret{Meta: meta(), Path: "/app/prod/pay/api"},
		fsm.CreateSecret{Meta: meta(), Path: "/tmp/gone", SecretID: "s4", KeyID: defaultKey, First: &first},
		fsm.DeleteSecret{Meta: meta(), Path: "/tmp/gone", Reason: "temporary", PurgeAt: start + 7*day + day/2},
		fsm.CreateSecret{Meta: meta(), Path: "/tmp/pending", SecretID: "s5", KeyID: defaultKey, First: &first},
		fsm.DeleteSecret{Meta: meta(), Path: "/tmp/pending", Reason: "temporary", PurgeAt: start + 90*day},
		fsm.CreatePrincipal{Meta: meta(), Principal: fsm.Principal{Name: "svc-pay", Kind: "service", Description: "payments"}},
		fsm.CreatePrincipal{Meta: meta(), Principal: fsm.Principal{Name: "leaver", Kind: "user"}},
		fsm.CreateToken{Meta: meta(), Token: token("t1", "svc-pay", start+40*day)},
		fsm.CreateToken{Meta: meta(), Token: token("t2", "leaver", start+40*day)},
		fsm.RevokeToken{Meta: meta(), TokenID: "t1"},
		fsm.DeletePrincipal{Meta: meta(), Name: "leaver"},
		fsm.DeletePrincipal{Meta: meta(), Name: "admin"}, // refused
		fsm.PutPolicy{Meta: meta(), Name: "reader", Statements: reader},
		fsm.PutPolicy{Meta: meta(), Name: "reader", Statements: reader[:1]},
		fsm.PutPolicy{Meta: meta(), Name: "unused", Statements: reader},
		fsm.AttachPolicy{Meta: meta(), Policy: "reader", Principal: "svc-pay"},
		fsm.AttachPolicy{Meta: meta(), Policy: "unused", Principal: "svc-pay"},
		fsm.DetachPolicy{Meta: meta(), Policy: "unused", Principal: "svc-pay"},
		fsm.DeletePolicy{Meta: meta(), Name: "unused"},
		fsm.PutAccessPolicy{Meta: meta(), Policy: fsm.AccessPolicy{Name: "office", Paths: []string{"/app/**"}, Actions: []string{"secrets:getSecretValue"}, Principals: []string{"svc-pay"}, SourceCIDRs: []string{"10.0.0.0/8"}, NotBefore: start, NotAfter: start + 100*day}},
		fsm.PutAccessPolicy{Meta: meta(), Policy: fsm.AccessPolicy{Name: "unused"}},
		fsm.DeleteAccessPolicy{Meta: meta(), Name: "unused"},
		fsm.Sweep{Meta: fsm.Meta{Time: start + 8*day}, Limit: 100},
		put("/app/prod/pay/api", "s3", 2, retry("secrets/putSecretValue", "token-3")),
	}
}

// tell applies the story.
func tell(t tester) *world {
	w := emptyWorld(t)
	for _, c := range story() {
		w.do(c)
	}
	return w
}

// kindName is the name of a command type, as golden files are called.
func kindName(c fsm.Command) string { return reflect.TypeOf(c).Name() }

// samples answers the fullest command of each kind in the story.
func samples(t *testing.T) map[fsm.Kind]fsm.Command {
	out := map[fsm.Kind]fsm.Command{}
	for _, c := range slices.Concat(story(), keyStory(), keepStory(), rootStory(), versionStory(), copyStory(), ledgerStory(), ruleStory(), rotationStory(), credentialStory(), trustStory()) {
		if old := out[c.Kind()]; old == nil || len(encoded(t, c)) > len(encoded(t, old)) {
			out[c.Kind()] = c
		}
	}
	for _, c := range slices.Concat(groupStory(), limitStory()) {
		if out[c.Kind()] == nil {
			out[c.Kind()] = c
		}
	}
	for _, c := range approvalStory() {
		if old := out[c.Kind()]; c.Kind() >= fsm.KindRequestApproval && (old == nil || len(encoded(t, c)) > len(encoded(t, old))) {
			out[c.Kind()] = c
		}
	}
	for _, c := range glassStory() {
		if old := out[c.Kind()]; c.Kind() >= fsm.KindOpenBreakGlass && (old == nil || len(encoded(t, c)) > len(encoded(t, old))) {
			out[c.Kind()] = c
		}
	}
	for _, c := range noticeStory() {
		if old := out[c.Kind()]; c.Kind() >= fsm.KindPutDetectors && (old == nil || len(encoded(t, c)) > len(encoded(t, old))) {
			out[c.Kind()] = c
		}
	}
	for _, c := range anchorStory() {
		if old := out[c.Kind()]; c.Kind() == fsm.KindAnchorHeads && (old == nil || len(encoded(t, c)) > len(encoded(t, old))) {
			out[c.Kind()] = c
		}
	}
	for _, c := range cosignatureStory() {
		if old := out[c.Kind()]; c.Kind() == fsm.KindAddCosignature && (old == nil || len(encoded(t, c)) > len(encoded(t, old))) {
			out[c.Kind()] = c
		}
	}
	fullest := map[fsm.Kind]fsm.Command{}
	for _, c := range nodeStory() {
		if old := fullest[c.Kind()]; old == nil || len(encoded(t, c)) > len(encoded(t, old)) {
			fullest[c.Kind()] = c
		}
	}
	out[fsm.KindSetVote] = voteStory()[len(voteStory())-1]
	anew := anewStory()
	out[fsm.KindStartAnew] = anew[len(anew)-1]
	recovered := recoveryStory()
	out[fsm.KindRecoverCluster], out[fsm.KindTellRecovery] = recovered[len(recovered)-2], recovered[len(recovered)-1]
	out[fsm.KindRaiseLevel] = fsm.RaiseLevel{Meta: fsm.Meta{Time: start, Principal: "strongroom", RequestID: "level"}, Level: 2, Node: "n1"}
	for _, k := range []fsm.Kind{fsm.KindSetNode, fsm.KindAdmitNode, fsm.KindSetJoinToken, fsm.KindPutAutopilot} {
		out[k] = fullest[k]
	}
	return out
}

// grown answers the fullest command of each kind that got fields after its
// golden file was written.
func grown(t *testing.T) map[fsm.Kind]fsm.Command {
	out := map[fsm.Kind]fsm.Command{}
	for _, c := range slices.Concat(groupStory(), limitStory()) {
		if k := c.Kind(); k == fsm.KindPutPathRule || k == fsm.KindPutPolicy || k == fsm.KindAttachPolicy || k == fsm.KindDetachPolicy || k == fsm.KindPutAccessPolicy {
			if out[k] == nil || len(encoded(t, c)) > len(encoded(t, out[k])) {
				out[k] = c
			}
		}
	}
	audit := auditKey(keyID(9))
	out[fsm.KindCreateKey] = fsm.CreateKey{Meta: fsm.Meta{Time: start}, Key: audit}
	return out
}

func encoded(t tester, c fsm.Command) []byte {
	t.Helper()
	b, err := fsm.Encode(c)
	require.NoError(t, err)
	return b
}

func TestGoldenCommands(t *testing.T) {
	samples := samples(t)
	for _, kind := range fsm.RegisteredKinds() {
		require.Contains(t, samples, kind, "kind %d has no sample, so no golden file", kind)
	}
	for kind := range samples {
		require.Contains(t, fsm.RegisteredKinds(), kind, "%s: a new kind belongs into the table of kinds", kindName(samples[kind]))
	}
	files := map[string]fsm.Command{}
	for kind, sample := range samples {
		files[fmt.Sprintf("%03d-%s-v1.hex", kind, kindName(sample))] = sample
	}
	for kind, sample := range grown(t) {
		files[fmt.Sprintf("%03d-%s-v1-grown.hex", kind, kindName(sample))] = sample
	}
	// A record that grew once more gets one more file.
	each := fsm.PutPathRule{Meta: fsm.Meta{Time: start}, Rule: fsm.PathRule{Prefix: "/app/", HSMEachRead: true}}
	files[fmt.Sprintf("%03d-%s-v1-each-read.hex", each.Kind(), kindName(each))] = each
	// A restore that doubts what happened after the backup.
	doubt := doubtStory()[len(doubtStory())-1]
	files[fmt.Sprintf("%03d-%s-v1-doubt.hex", doubt.Kind(), kindName(doubt))] = doubt
	for name, sample := range files {
		path := filepath.Join(commandFolder, name)
		current := encoded(t, sample)
		b := golden(t, path, []byte(wrapped64(hex.EncodeToString(current))))
		old := unhex(t, b)
		require.Equal(t, old, current, "%s: this build writes it differently", path)
	}
}

// TestOldCommandsAreRead reads every golden file there is, also those that
// no sample of this build makes any more.
func TestOldCommandsAreRead(t *testing.T) {
	files, err := filepath.Glob(commandFolder + "/*.hex")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), len(fsm.RegisteredKinds()))
	for _, path := range files {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		c, err := fsm.Decode(unhex(t, b))
		require.NoError(t, err, path)
		require.True(t, strings.HasPrefix(filepath.Base(path), fmt.Sprintf("%03d-%s-v", c.Kind(), kindName(c))), path)
		again, err := fsm.Encode(c)
		require.NoError(t, err)
		require.Equal(t, unhex(t, b), again, path)
	}
}

func TestGoldenSnapshot(t *testing.T) {
	w := tell(t)
	old := golden(t, snapshotGolden, snapshot(t, w.m))
	m := fsm.New()
	require.NoError(t, m.Restore(bytes.NewReader(old)))

	state := m.State()
	require.EqualValues(t, len(story()), state.Index())
	require.Equal(t, start+8*day, state.Time())
	require.Equal(t, "c1", state.Genesis().ClusterID)
	db := state.Secret("/app/prod/pay/db")
	require.Equal(t, map[string]uint64{"current": 4, "previous": 3}, db.Labels)
	require.Equal(t, map[string]string{"owner": "pay", "tier": "1"}, db.Tags)
	var states []fsm.VersionState
	for v := range state.Versions("/app/prod/pay/db") {
		states = append(states, v.State)
	}
	require.Equal(t, []fsm.VersionState{fsm.VersionActive, fsm.VersionPendingDestroy, fsm.VersionActive, fsm.VersionDestroyed}, states)
	require.Equal(t, []byte("sealed value"), state.Version("/app/prod/pay/db", 4).Sealed)
	require.Equal(t, fsm.SecretPurged, state.Secret("/tmp/gone").State)
	require.Equal(t, fsm.SecretPendingDeletion, state.Secret("/tmp/pending").State)
	require.EqualValues(t, 3, state.BoundCount(defaultKey))
	require.Equal(t, fsm.KeyDisabled, state.KeyByRef("alias/payments").State)
	require.Equal(t, []string{"reader"}, state.Principal("svc-pay").Policies)
	require.EqualValues(t, 2, state.Policy("reader").Revision)
	require.NotZero(t, state.TokenByHash(hashOf("t1")).RevokedAt)
	require.NotNil(t, state.AccessPolicy("office"))
	require.True(t, state.Due(start+60*day))
}

// TestOldLogsAreDecidedAlike: a build that decides an old log differently
// would part from the replicas, or from its own snapshot, that applied it.
func TestOldLogsAreDecidedAlike(t *testing.T) {
	hash := tell(t).m.State().Hash()
	old := golden(t, hashGolden, []byte(hex.EncodeToString(hash[:])+"\n"))
	require.Equal(t, strings.TrimSpace(string(old)), hex.EncodeToString(hash[:]))
}

// wrapped64 breaks a hex text into lines that a review can show.
func wrapped64(s string) string {
	var out strings.Builder
	for len(s) > 64 {
		out.WriteString(s[:64] + "\n")
		s = s[64:]
	}
	return out.String() + s + "\n"
}

func unhex(t *testing.T, b []byte) []byte {
	t.Helper()
	out, err := hex.DecodeString(strings.ReplaceAll(string(b), "\n", ""))
	require.NoError(t, err)
	return out
}
