package fsm_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// checkStored recounts what is stored, the slow way.
func checkStored(t tester, s *fsm.State) {
	want := map[string]fsm.Stored{}
	for secret := range s.Secrets("") {
		one := fsm.Stored{}
		if secret.State != fsm.SecretPurged {
			one.Secrets = 1
		}
		for v := range s.Versions(secret.Path) {
			if v.State != fsm.VersionDestroyed {
				one.Versions++
				one.Bytes += uint64(v.Size)
			}
		}
		if one == (fsm.Stored{}) {
			continue
		}
		segments := strings.Split(string(secret.Path), "/")
		for n := 1; n < len(segments); n++ {
			prefix := strings.Join(segments[:n], "/") + "/"
			sum := want[prefix]
			want[prefix] = fsm.Stored{Secrets: sum.Secrets + one.Secrets, Versions: sum.Versions + one.Versions, Bytes: sum.Bytes + one.Bytes}
		}
	}
	require.Equal(t, want, fsm.Dump(s)["usage"], "what is counted is not what is there")
}

func (w *world) quota(prefix string, secrets, versions, bytes uint64) {
	w.t.Helper()
	w.ok(fsm.PutPathRule{Meta: w.meta(), Rule: fsm.PathRule{Prefix: prefix, MaxSecrets: secrets, MaxVersions: versions, MaxBytes: bytes}})
}

func (w *world) create(path string, value bool) fsm.CreateSecret {
	c := fsm.CreateSecret{Meta: w.meta(), Path: path, SecretID: "id" + fmt.Sprint(w.index), KeyID: defaultKey}
	if value {
		first := newVersion(1, defaultKey)
		c.First = &first
	}
	return c
}

func TestQuotas(t *testing.T) {
	w := newWorld(t)
	w.quota("/app/", 2, 0, 0)
	w.secret("/app/a", 0)
	w.secret("/other/a", 0) // of another prefix
	w.secret("/app/b/c", 0)
	r := w.refused(fault.RateLimited, w.create("/app/d", false), "path: ", "/app/", "maxSecrets 2", "2 are used", "1 more")
	require.Equal(t, map[string]string{"quota": "maxSecrets", "prefix": "/app/", "limit": "2", "used": "2"}, r.Details)
	// One that is deleted counts until it is purged.
	w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: "/app/a", PurgeAt: w.now + 8*day})
	w.refused(fault.RateLimited, w.create("/app/d", false), "purged")
	w.now += 8 * day
	w.sweep()
	w.ok(w.create("/app/d", false))

	w.quota("/app/", 0, 3, 0)
	w.ok(w.put("/app/d"))
	w.ok(w.put("/app/d"))
	w.ok(w.put("/app/b/c"))
	w.refused(fault.RateLimited, w.put("/app/b/c"), "maxVersions 3")
	w.refused(fault.RateLimited, w.create("/app/e", true), "maxVersions 3")
	w.ok(w.create("/app/e", false)) // without a version
	w.ok(w.destroy("/app/d", 1))
	w.ok(w.put("/app/b/c"))

	// Each version has nine bytes. All rules that cover the path hold.
	w.quota("/app/", 0, 10, 0)
	w.quota("/app/b/", 0, 0, 26)
	w.quota("/", 0, 0, 40)
	w.refused(fault.RateLimited, w.put("/app/b/c"), "/app/b/", "maxBytes 26", "18 are used", "9 more")
	w.ok(w.put("/app/d"))
	w.refused(fault.RateLimited, w.put("/app/d"), "the rule / has maxBytes 40")
	require.Equal(t, fsm.Stored{Secrets: 3, Versions: 4, Bytes: 36}, w.m.State().StoredBelow("/app/"))
	require.Equal(t, []fsm.Quota{{Prefix: "/app/b/", Name: "maxBytes", Limit: 26, Used: 18}}, w.m.State().Quotas(w.m.State().PathRule("/app/b/")))
	checkStored(t, w.m.State())
}

// A rule that is put over what is there already takes nothing away, and lets
// everything happen that adds nothing.
func TestAQuotaBelowWhatIsThere(t *testing.T) {
	w := newWorld(t)
	w.secret("/app/a", 3)
	w.quota("/app/", 1, 1, 1)
	w.refused(fault.RateLimited, w.put("/app/a"), "maxVersions 1")
	w.ok(fsm.UpdateSecret{Meta: w.meta(), Path: "/app/a", SetTags: true, Tags: map[string]string{"a": "b"}})
	w.ok(w.destroy("/app/a", 1))
	w.refused(fault.RateLimited, w.put("/app/a"), "2 are used")
	w.refused(fault.InvalidRequest, fsm.PutPathRule{Meta: w.meta(), Rule: fsm.PathRule{Prefix: "/app/", MaxBytes: 1<<53 + 1}}, "maxBytes")
}
