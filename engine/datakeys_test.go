package engine_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/kms"
	"github.com/strongroom/strongroom/test/softtoken"
)

// cachingWorld keeps data keys in memory, and has the secret /app/dev/web/db.
func cachingWorld(t *testing.T) (*world, *kms.DataKeyCache) {
	w := newWorld(t)
	c := kms.NewDataKeyCache(100, time.Hour, nil)
	w.engine.KMS.CacheDataKeys(c)
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/db","value":%q}`, b64("one"))
	return w, c
}

// readTells reads the current value and answers what its events say of cached,
// after the device's own count was compared.
func (w *world) readTells(path string) bool {
	w.t.Helper()
	before := w.token.Opens.Load()
	id, _, err := w.request(w.admin, "secrets/getSecretValue", fmt.Sprintf(`{"path":%q}`, path))
	require.NoError(w.t, err)
	events := w.events(audit.Filter{RequestID: id})
	require.Len(w.t, events, 2)
	require.Equal(w.t, []string{"kms.decrypt", "secrets.get_value"}, []string{events[0].Event, events[1].Event})
	require.Len(w.t, events[1].KMS, 1)
	require.Equal(w.t, events[0].Sequence, events[1].KMS[0].Sequence)
	require.Equal(w.t, events[0].Cached, events[1].KMS[0].Cached)
	require.False(w.t, events[1].Cached, "of a kms event only")
	require.Equal(w.t, events[0].Cached, w.token.Opens.Load() == before)
	return events[0].Cached
}

func TestEventsTellWhichReadNeededNoHSM(t *testing.T) {
	w, _ := cachingWorld(t)
	require.False(t, w.readTells("/app/dev/web/db"))
	require.True(t, w.readTells("/app/dev/web/db"))
	w.put("/app/dev/web/db", "two")
	require.False(t, w.readTells("/app/dev/web/db"), "another version has another data key")
	require.Equal(t, "two", w.value("/app/dev/web/db"))

	shown := into[wire.QueryEventsResponse](t, w.ok("audit/queryEvents", `{"event":"kms.decrypt"}`)).Events
	require.Equal(t, []bool{false, true, false, true}, []bool{shown[0].Cached, shown[1].Cached, shown[2].Cached, shown[3].Cached})
}

func TestABatchReadsFromMemoryToo(t *testing.T) {
	w, _ := cachingWorld(t)
	w.readTells("/app/dev/web/db")
	before := w.token.Opens.Load()
	w.ok("secrets/batchGetSecretValue", `{"items":[{"path":"/app/dev/web/db"},{"path":"/app/dev/web/db","version":1}]}`)
	require.Equal(t, before, w.token.Opens.Load())
	for _, e := range w.events(audit.Filter{Events: []string{"kms.decrypt"}})[1:] {
		require.True(t, e.Cached)
	}
}

// What copies a value, or compares it, is no read and asks the HSM.
func TestOnlyReadsAreServedFromMemory(t *testing.T) {
	w, _ := cachingWorld(t)
	w.readTells("/app/dev/web/db")
	before := w.token.Opens.Load()
	w.ok("secrets/copySecret", `{"path":"/app/dev/web/db","toPath":"/app/dev/web/copy"}`)
	require.Equal(t, before+1, w.token.Opens.Load())
}

func TestAPathRuleHasTheHSMAskedForEachRead(t *testing.T) {
	w, c := cachingWorld(t)
	require.False(t, w.readTells("/app/dev/web/db"))
	require.True(t, w.readTells("/app/dev/web/db"))
	w.ok("secrets/putPathRule", `{"prefix":"/app/","hsmEachRead":true}`)
	require.False(t, w.readTells("/app/dev/web/db"), "what is in memory already does not count either")
	w.ok("secrets/putPathRule", `{"prefix":"/app/dev/","owner":"web"}`)
	require.False(t, w.readTells("/app/dev/web/db"), "a rule for a part does not lift it")

	rule := into[wire.DescribeSecretResponse](t, w.ok("secrets/describeSecret", `{"path":"/app/dev/web/db"}`)).Rule
	require.True(t, rule.HSMEachRead)
	require.Equal(t, "/app/", rule.From["hsmEachRead"])
	rules := into[wire.ListPathRulesResponse](t, w.ok("secrets/listPathRules", `{}`)).PathRules
	require.Equal(t, []bool{true, false}, []bool{rules[0].HSMEachRead, rules[1].HSMEachRead})

	w.ok("secrets/createSecret", `{"path":"/other/db","value":%q}`, b64("x"))
	require.False(t, w.readTells("/other/db"))
	require.True(t, w.readTells("/other/db"), "what the rule does not cover")
	held := c.Len()
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/new","value":%q}`, b64("x"))
	require.False(t, w.readTells("/app/dev/web/new"))
	require.Equal(t, held, c.Len(), "nor is its data key kept")

	w.token.Down.Store(true)
	_, err := w.as(w.admin, "secrets/getSecretValue", `{"path":"/app/dev/web/db"}`)
	w.refused(fault.HsmUnavailable, "", err)
	w.token.Down.Store(false)
	w.ok("secrets/deletePathRule", `{"prefix":"/app/"}`)
	require.True(t, w.readTells("/app/dev/web/db"))
}

// What may not be read is refused as before, with its data key in memory.
func TestMemoryServesNothingThatMayNotBeRead(t *testing.T) {
	w, _ := cachingWorld(t)
	w.put("/app/dev/web/db", "two")
	old := func() error {
		_, err := w.as(w.admin, "secrets/getSecretValue", `{"path":"/app/dev/web/db","version":1}`)
		return err
	}
	require.NoError(t, old())
	before := w.token.Opens.Load()
	require.NoError(t, old())
	require.Equal(t, before, w.token.Opens.Load())

	w.ok("secrets/disableVersion", `{"path":"/app/dev/web/db","version":1}`)
	w.refused(fault.VersionNotActive, "", old())
	w.ok("secrets/enableVersion", `{"path":"/app/dev/web/db","version":1}`)
	require.NoError(t, old())
	w.ok("secrets/destroyVersion", `{"path":"/app/dev/web/db","version":1,"force":true,"reason":"test"}`)
	w.refused(fault.VersionNotActive, "", old())
	require.Equal(t, before, w.token.Opens.Load())
}

// runDataKeys has the engine look after the data keys until the test ends.
func (w *world) runDataKeys() (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.engine.RunDataKeys(ctx) }()
	return func() { cancel(); <-done }
}

func TestDestroyedVersionsLeaveMemory(t *testing.T) {
	w, c := cachingWorld(t)
	w.put("/app/dev/web/db", "two")
	w.ok("secrets/getSecretValue", `{"path":"/app/dev/web/db","version":1}`)
	w.ok("secrets/getSecretValue", `{"path":"/app/dev/web/db"}`)
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/moved","value":%q}`, b64("x"))
	w.readTells("/app/dev/web/moved")
	require.Equal(t, 3, c.Len())
	stop := w.runDataKeys()
	holds := func(n int) {
		t.Helper()
		require.Eventually(t, func() bool { return c.Len() == n }, 20*time.Second, 5*time.Millisecond)
	}
	w.ok("secrets/destroyVersion", `{"path":"/app/dev/web/db","version":1,"force":true,"reason":"test"}`)
	holds(2)
	key := into[wire.KeyResponse](t, w.ok("kms/createKey", `{}`)).KeyID
	w.ok("secrets/bindKey", `{"path":"/app/dev/web/moved","kmsKeyId":%q}`, key)
	holds(1)
	require.False(t, w.readTells("/app/dev/web/moved"), "the new data key's seal is another")
	require.True(t, w.readTells("/app/dev/web/db"), "the others stay")
	stop()
	require.Zero(t, c.Len(), "a node that stops forgets all")
}

func TestAnHSMThatIsAwayEmptiesMemory(t *testing.T) {
	w, c := cachingWorld(t)
	w.readTells("/app/dev/web/db")
	require.Equal(t, 1, c.Len())
	w.engine.WipeDataKeys()
	require.Zero(t, c.Len())
	w.token.Down.Store(true)
	_, err := w.as(w.admin, "secrets/getSecretValue", `{"path":"/app/dev/web/db"}`)
	w.refused(fault.HsmUnavailable, "", err)
}

// slowOpen runs during before each Open answers.
type slowOpen struct {
	*softtoken.Token
	during func()
}

func (s slowOpen) Open(ctx context.Context, k wrapped.Key, iv, box, aad []byte) (secret.Bytes, error) {
	plain, err := s.Token.Open(ctx, k, iv, box, aad)
	s.during()
	return plain, err
}

// A version that is destroyed while the HSM opens its data key does not come
// into memory behind the look that was to remove it.
func TestADataKeyThatIsDestroyedMeanwhileIsNotKept(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/db","value":%q}`, b64("one"))
	w.put("/app/dev/web/db", "two")
	during := func() {}
	service, err := kms.New(slowOpen{w.token, func() { during() }}, w.engine.ClusterID)
	require.NoError(t, err)
	c := kms.NewDataKeyCache(100, time.Hour, nil)
	service.CacheDataKeys(c)
	w.reborn(func(cfg *engine.Config) { cfg.KMS = service })
	require.NoError(t, w.engine.OpenLedger(t.Context()))
	during = func() {
		during = func() {}
		w.ok("secrets/destroyVersion", `{"path":"/app/dev/web/db","version":1,"force":true,"reason":"test"}`)
	}
	_, err = w.as(w.admin, "secrets/getSecretValue", `{"path":"/app/dev/web/db","version":1}`)
	if err != nil { // the ledger may hold the destruction up, or the read
		w.refused(fault.VersionNotActive, "", err)
	}
	require.Zero(t, c.Len())
	w.ok("secrets/getSecretValue", `{"path":"/app/dev/web/db"}`)
	require.Equal(t, 1, c.Len())
}
