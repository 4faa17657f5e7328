package engine_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
)

// stock is a world in which every operation has something to work on.
type stock struct {
	*world
	accessKey  string    // the id of one of svc
	keyID      string    // of alias/pay, which no secret is bound to
	offID      string    // of alias/off, which is disabled
	ciphertext string    // under alias/pay
	tokenID    string    // of svc
	joinToken  string    // the id of one that nobody has used
	jobID      string    // a paused job from alias/busy to alias/pay
	signature  string    // of "hi" under alias/sign
	mac        string    // of "hi" under alias/mac
	material   string    // for alias/waiting
	jwts       [2]string // of the trust ci, for admin
	glass      string    // the id of an open break-glass session of svc
	broken     string    // of one that has ended
	asked      [2]string // ids of requests for approval of eve
	own        [2]string // and of admin
	cosigned   [2]string // notes of two witnesses
}

// The marks stand for plaintexts: what a test searches for in answers.
const (
	markValue  = "MARKED-PLAINTEXT-VALUE"
	markCaller = "MARKED-CALLER-PLAINTEXT"
)

func newStock(t *testing.T) *stock {
	w := newWorld(t)
	s := &stock{world: w}
	w.engine.MakeAuditKey(t.Context())
	w.engine.SignChains(t.Context())
	w.engine.Backups = engine.Backups{Dir: t.TempDir(), Every: time.Hour, Keep: 2}
	w.engine.KeepBackup(t.Context())
	for i := range s.cosigned {
		s.cosigned[i] = w.cosign(w.checkpoint().Checkpoints[0].Note, w.witness(fmt.Sprintf("w%d", i)))
	}
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/db","value":%q}`, b64(markValue+"-1"))
	w.put("/app/dev/web/db", markValue+"-2")
	w.put("/app/dev/web/db", markValue+"-3")
	for _, instance := range []string{"pod-1", "pod-2"} {
		w.ok("secrets/confirmVersion", `{"path":"/app/dev/web/db","version":3,"instance":%q}`, instance)
	}
	w.ok("secrets/destroyVersion", `{"path":"/app/dev/web/db","version":2,"delay":"1d"}`)
	w.ok("secrets/setVersionLabel", `{"path":"/app/dev/web/db","version":1,"label":"blue"}`)
	w.ok("secrets/putPathRule", `{"prefix":"/app/dev/","owner":"web"}`)
	w.ok("secrets/putPathRule", `{"prefix":"/app/dev/web/","owner":"web","minRetention":"1s"}`)
	w.setNow(w.now().Add(time.Second))
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/gone","value":%q}`, b64(markValue+"-4"))
	w.ok("secrets/deleteSecret", `{"path":"/app/dev/web/gone"}`)
	w.ok("secrets/updateSecret", `{"path":"/app/dev/web/db","rotation":{"kind":"generate","generate":{"kind":"hex"}}}`)
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/turn"}`)
	w.ok("secrets/updateSecret", `{"path":"/app/dev/web/turn","rotation":{"kind":"generate","generate":{"kind":"hex"},"interval":"30d"}}`)
	w.ok("secrets/rotateSecret", `{"path":"/app/dev/web/turn"}`)
	w.waits("/app/dev/web/turn", w.now().AddDate(10, 0, 0)) // on its way, with nothing for a leader to do
	s.keyID = into[wire.KeyResponse](t, w.ok("kms/createKey", `{"alias":"alias/pay"}`)).KeyID
	s.offID = into[wire.KeyResponse](t, w.ok("kms/createKey", `{"alias":"alias/off"}`)).KeyID
	w.ok("kms/disableKey", `{"keyId":"alias/off"}`)
	sealed := into[wire.EncryptResponse](t, w.ok("kms/encrypt", `{"keyId":"alias/pay","plaintext":%q}`, b64(markCaller)))
	s.ciphertext = base64.StdEncoding.EncodeToString(sealed.Ciphertext)
	w.ok("kms/createKey", `{"alias":"alias/worn"}`)
	w.ok("kms/rotateKey", `{"keyId":"alias/worn"}`)
	w.ok("kms/createAlias", `{"alias":"alias/second","keyId":"alias/worn"}`)
	w.ok("kms/createKey", `{"alias":"alias/doomed"}`)
	w.ok("kms/scheduleKeyDeletion", `{"keyId":"alias/doomed"}`)
	w.ok("kms/createKey", `{"alias":"alias/sign","spec":"ec-p256"}`)
	s.signature = raw64(into[wire.SignResponse](t, w.ok("kms/sign", `{"keyId":"alias/sign","message":"aGk="}`)).Signature)
	w.ok("kms/createKey", `{"alias":"alias/mac","spec":"hmac-256"}`)
	s.mac = raw64(into[wire.GenerateMACResponse](t, w.ok("kms/generateMac", `{"keyId":"alias/mac","message":"aGk="}`)).MAC)
	w.ok("kms/createKey", `{"alias":"alias/busy"}`)
	w.ok("secrets/createSecret", `{"path":"/app/dev/api/busy","kmsKeyId":"alias/busy","value":%q}`, b64(markValue+"-5"))
	s.jobID = into[wire.MigrateBoundSecretsResponse](t, w.ok("kms/migrateBoundSecrets", `{"fromKeyId":"alias/busy","toKeyId":"alias/pay"}`)).JobID
	w.ok("kms/migrateBoundSecrets", `{"fromKeyId":"alias/worn","toKeyId":"alias/pay"}`) // nothing to do: done at once
	w.ok("cluster/pauseJob", `{"jobId":%q}`, s.jobID)
	for _, alias := range []string{"alias/empty", "alias/waiting"} {
		w.ok("kms/createKey", `{"alias":%q,"origin":"imported"}`, alias)
	}
	s.material = wrapFor(t, into[wire.ImportParametersResponse](t, w.ok("kms/getImportParameters", `{"keyId":"alias/waiting"}`)).PublicKey, make([]byte, 32))
	w.withRoots()
	w.ok("cluster/cancelJob", `{"jobId":%q}`, w.rotateRoot().JobID) // leaves root key v2 replaced
	w.ok("iam/createPrincipal", `{"name":"svc","kind":"service"}`)
	s.tokenID = into[wire.CreateTokenResponse](t, w.ok("iam/createToken", `{"principal":"svc"}`)).TokenID
	for range 2 {
		s.accessKey = into[wire.CreateAccessKeyResponse](t, w.ok("iam/createAccessKey", `{"principal":"svc"}`)).AccessKeyID
	}
	for _, name := range []string{"attached", "loose"} {
		w.ok("iam/putPolicy", `{"name":%q,"statements":[{"effect":"allow","actions":["iam:listPolicies"]}]}`, name)
	}
	w.ok("iam/attachPolicy", `{"policy":"attached","principal":"svc"}`)
	w.ok("iam/putPolicy", `{"name":"loose","reason":"again","statements":[{"effect":"allow","actions":["iam:listPrincipals"]}]}`)
	for _, name := range []string{"slow", "wild"} {
		w.ok("iam/putRateLimit", `{"name":%q,"kind":"requests","per":"principal","principals":["nobody"],"count":10}`, name)
	}
	for _, name := range []string{"ops", "idle"} {
		w.ok("iam/createGroup", `{"name":%q}`, name)
	}
	for _, name := range []string{"svc", "admin"} {
		w.ok("iam/addToGroup", `{"group":"ops","principal":%q}`, name)
	}
	w.ok("iam/attachPolicy", `{"policy":"attached","group":"ops","ttl":"2h"}`)
	w.ok("iam/putAccessPolicy", `{"name":"office","paths":["/app/prod/**"],"sourceCidrs":["192.0.2.0/24"]}`)
	w.ok("cluster/addMember", `{"nodeId":"node8","address":"10.0.0.8:7401"}`)
	for range 2 {
		s.joinToken = into[wire.CreateJoinTokenResponse](t, w.ok("cluster/createJoinToken", `{}`)).TokenID
	}
	s.breakGlass()
	s.askForApprovals()
	s.mistrust()
	issuer := newIssuer(t)
	w.trustIssuer("ci", issuer, `"principal":"admin"`)
	w.trustIssuer("other", issuer, `"principal":"svc"`)
	for i := range s.jwts {
		s.jwts[i] = issuer.jwt(w, map[string]any{"jti": i})
	}
	return s
}

// mistrust leaves canaries, compromised versions, reads and a quarantine.
func (s *stock) mistrust() {
	for _, path := range []string{"/app/dev/web/turn", "/app/dev/api/busy"} {
		s.ok("secrets/setCanary", `{"path":%q,"canary":true}`, path)
	}
	s.ok("secrets/markCompromised", `{"path":"/app/dev/web/db","versions":[1,3],"reason":"a laptop was stolen"}`)
	for _, path := range []string{"/seen/a", "/seen/b"} {
		s.ok("secrets/createSecret", `{"path":%q,"value":%q}`, path, b64(markValue+"-6"))
		s.ok("secrets/getSecretValue", `{"path":%q}`, path)
	}
	s.ok("iam/createPrincipal", `{"name":"locked","kind":"service"}`)
	s.ok("iam/quarantinePrincipal", `{"principal":"locked","reason":"a laptop was stolen"}`)
}

// breakGlass opens a session of svc, after one that has ended.
func (s *stock) breakGlass() {
	s.ok("iam/putPolicy", `{"name":"emergency","statements":[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/prod/**"]}]}`)
	s.ok("iam/putPolicy", `{"name":"opener","statements":[{"effect":"allow","actions":["iam:openBreakGlass"]}]}`)
	s.ok("iam/attachPolicy", `{"policy":"opener","group":"ops"}`)
	for _, name := range []string{"svc", "admin"} {
		s.ok("iam/attachPolicy", `{"policy":"emergency","principal":%q,"mode":"breakGlass"}`, name)
	}
	svc := s.tokenOf("svc")
	s.broken = into[wire.OpenBreakGlassResponse](s.t, s.okAs(svc, "iam/openBreakGlass", `{"reason":"drill"}`)).BreakGlassID
	s.okAs(svc, "iam/closeBreakGlass", fmt.Sprintf(`{"breakGlassId":%q}`, s.broken))
	s.glass = into[wire.OpenBreakGlassResponse](s.t, s.okAs(svc, "iam/openBreakGlass", `{"reason":"incident","duration":"12h"}`)).BreakGlassID
}

// askForApprovals has eve and admin ask for approval, each of two requests.
func (s *stock) askForApprovals() {
	eve := s.principal("eve", `[{"effect":"allow","actions":["secrets:deleteSecret"],"paths":["/app/prod/held/**"]}]`)
	s.ok("iam/putPolicy", `{"name":"two","statements":[{"effect":"requireApproval","actions":["secrets:deleteSecret"],"paths":["/app/prod/held/**"],"approval":{"count":1}}]}`)
	s.ok("iam/attachPolicy", `{"policy":"two","group":"everyone"}`)
	s.setNow(s.now().Add(time.Second)) // who approves was there before
	ask := func(token string, n int) string {
		answer, err := s.as(token, "iam/requestApproval", fmt.Sprintf(`{"operation":"secrets/deleteSecret","request":{"path":"/app/prod/held/%d"},"reason":"unused"}`, n))
		require.NoError(s.t, err)
		return into[wire.ApprovalResponse](s.t, answer).ApprovalID
	}
	for i := range s.asked {
		s.asked[i], s.own[i] = ask(eve, i), ask(s.admin, i)
	}
}

// sample is one request of an operation that succeeds for the administrator
// in a fresh stock, and one that is authorised and then fails.
type sample struct {
	operation string
	good      string
	bad       string
	code      string   // of bad
	subject   string   // of the event of good: a path, a key or what else is named
	inner     []string // kms events of good
}

const (
	absentID        = "00000000-0000-4000-8000-000000000000"
	absentAccessKey = "SRAKAAAAAAAAAAAAAAAA"
)

// samples has every operation of the table; TestEveryOperationHasASample
// holds that.
func (s *stock) samples() []sample {
	const db, gone = "/app/dev/web/db", "/app/dev/web/gone"
	v := b64("another value")
	seal, open := []string{"kms.encrypt"}, []string{"kms.decrypt"}
	return []sample{
		{"secrets/createSecret", `{"path":"/app/dev/web/new","value":"` + v + `"}`, `{"path":"` + db + `"}`, "AlreadyExists", "/app/dev/web/new", seal},
		{"secrets/describeSecret", `{"path":"` + db + `"}`, `{"path":"/a/none"}`, "NotFound", db, nil},
		{"secrets/listSecrets", `{"prefix":"/app"}`, `{"limit":0}`, "InvalidRequest", "/app/", nil},
		{"secrets/deleteSecret", `{"path":"` + db + `"}`, `{"path":"` + gone + `"}`, "Conflict", db, nil},
		{"secrets/restoreSecret", `{"path":"` + gone + `"}`, `{"path":"` + db + `"}`, "Conflict", gone, nil},
		{"secrets/putSecretValue", `{"path":"` + db + `","value":"` + v + `"}`, `{"path":"/a/none","value":"` + v + `"}`, "NotFound", db, seal},
		{"secrets/generateSecret", `{"path":"` + db + `","kind":"uuid","reveal":true}`, `{"path":"/a/none","kind":"uuid"}`, "NotFound", db, []string{"kms.encrypt", "kms.decrypt"}},
		{"secrets/getSecretValue", `{"path":"` + db + `"}`, `{"path":"` + db + `","version":99}`, "NotFound", db, open},
		{"secrets/batchGetSecretValue", `{"items":[{"path":"` + db + `"}]}`, `{"items":[]}`, "InvalidRequest", "", open},
		{"secrets/listSecretVersions", `{"path":"` + db + `"}`, `{"path":"/a/none"}`, "NotFound", db, nil},
		{"secrets/confirmVersion", `{"path":"` + db + `","version":1,"instance":"pod-1"}`, `{"path":"` + db + `","version":99}`, "NotFound", db, nil},
		{"secrets/listConsumers", `{"path":"` + db + `"}`, `{"path":"/a/none"}`, "NotFound", db, nil},
		{"secrets/destroyVersion", `{"path":"` + db + `","version":1}`, `{"path":"` + db + `","version":3}`, "Conflict", db, nil},
		{"secrets/bindKey", `{"path":"` + db + `","kmsKeyId":"alias/pay"}`, `{"path":"` + db + `","kmsKeyId":"alias/off"}`, "KeyNotActive", db, slices.Repeat([]string{"kms.decrypt", "kms.encrypt"}, 3)},
		{"secrets/setVersionLabel", `{"path":"` + db + `","version":1,"label":"current"}`, `{"path":"` + db + `","version":2,"label":"current"}`, "VersionNotActive", db, nil},
		{"secrets/removeVersionLabel", `{"path":"` + db + `","label":"blue"}`, `{"path":"` + db + `","label":"current"}`, "Conflict", db, nil},
		{"secrets/disableVersion", `{"path":"` + db + `","version":1}`, `{"path":"` + db + `","version":2}`, "Conflict", db, nil},
		{"secrets/enableVersion", `{"path":"` + db + `","version":1}`, `{"path":"` + db + `","version":99}`, "NotFound", db, nil},
		{"secrets/updateSecret", `{"path":"` + db + `","description":"d"}`, `{"path":"` + db + `"}`, "InvalidRequest", db, nil},
		{"secrets/rotateSecret", `{"path":"` + db + `"}`, `{"path":"/app/dev/web/turn"}`, "Conflict", db, nil},
		{"secrets/cancelRotation", `{"path":"/app/dev/web/turn"}`, `{"path":"` + db + `"}`, "Conflict", "/app/dev/web/turn", nil},
		{"secrets/copySecret", `{"path":"` + db + `","toPath":"/app/dev/web/copy"}`, `{"path":"` + db + `","toPath":"` + gone + `"}`, "AlreadyExists", db, slices.Repeat([]string{"kms.decrypt", "kms.encrypt"}, 3)},
		{"secrets/getUsage", `{"prefix":"/app"}`, `{"prefix":"app"}`, "InvalidRequest", "/app/", nil},
		{"secrets/waitForChange", `{"paths":["` + db + `"],"timeout":"0s"}`, `{"paths":["` + db + `"],"timeout":"61s"}`, "InvalidRequest", db, nil},
		{"secrets/putPathRule", `{"prefix":"/app/prod","keepVersions":3,"reason":"enough to go back"}`, `{"prefix":"/app/prod","kmsKeyId":"alias/off"}`, "KeyNotActive", "/app/prod/", nil},
		{"secrets/listPathRules", `{"prefix":"/app"}`, `{"limit":0}`, "InvalidRequest", "/app/", nil},
		{"secrets/deletePathRule", `{"prefix":"/app/dev/"}`, `{"prefix":"/app/none/"}`, "NotFound", "/app/dev/", nil},
		{"secrets/setCanary", `{"path":"` + db + `","canary":true}`, `{"path":"/a/none","canary":true}`, "NotFound", db, nil},
		{"secrets/listCanaries", `{}`, `{"limit":0}`, "InvalidRequest", "", nil},
		{"secrets/markCompromised", `{"path":"` + db + `","versions":[2],"reason":"incident"}`, `{"path":"` + db + `","versions":[9],"reason":"incident"}`, "NotFound", db, nil},
		{"secrets/listCompromised", `{}`, `{"limit":0}`, "InvalidRequest", "", nil},
		{"secrets/lintPaths", `{"prefix":"/app","rule":{"requiredTags":["owner"]}}`, `{"prefix":"/app","rule":{}}`, "InvalidRequest", "/app/", nil},
		{"secrets/cancelDestroyVersion", `{"path":"` + db + `","version":2}`, `{"path":"` + db + `","version":1}`, "Conflict", db, nil},

		{"kms/createKey", `{"alias":"alias/more"}`, `{"alias":"alias/pay"}`, "AlreadyExists", "", nil},
		{"kms/describeKey", `{"keyId":"alias/pay"}`, `{"keyId":"alias/none"}`, "NotFound", s.keyID, nil},
		{"kms/listKeys", `{}`, `{"limit":0}`, "InvalidRequest", "", nil},
		{"kms/disableKey", `{"keyId":"alias/pay"}`, `{"keyId":"alias/default"}`, "KeyInUse", s.keyID, nil},
		{"kms/enableKey", `{"keyId":"alias/off"}`, `{"keyId":"alias/none"}`, "NotFound", s.offID, nil},
		{"kms/encrypt", `{"keyId":"alias/pay","plaintext":"` + v + `"}`, `{"keyId":"alias/off","plaintext":"` + v + `"}`, "KeyNotActive", s.keyID, nil},
		{"kms/decrypt", `{"ciphertext":"` + s.ciphertext + `"}`, `{"ciphertext":"` + s.ciphertext + `","context":{"a":"b"}}`, "InvalidRequest", s.keyID, nil},
		{"kms/listBoundSecrets", `{"keyId":"alias/default"}`, `{"keyId":"` + absentID + `"}`, "NotFound", "", nil},

		{"kms/updateKey", `{"keyId":"alias/pay","description":"d"}`, `{"keyId":"alias/pay"}`, "InvalidRequest", s.keyID, nil},
		{"kms/createAlias", `{"alias":"alias/more","keyId":"alias/pay"}`, `{"alias":"alias/pay","keyId":"alias/pay"}`, "AlreadyExists", s.keyID, nil},
		{"kms/updateAlias", `{"alias":"alias/second","keyId":"alias/pay"}`, `{"alias":"alias/second","keyId":"alias/none"}`, "NotFound", s.key("alias/worn").ID, nil},
		{"kms/deleteAlias", `{"alias":"alias/second"}`, `{"alias":"alias/default"}`, "Conflict", s.key("alias/worn").ID, nil},
		{"kms/listAliases", `{}`, `{"limit":0}`, "InvalidRequest", "", nil},
		{"kms/rotateKey", `{"keyId":"alias/pay"}`, `{"keyId":"alias/off"}`, "KeyNotActive", s.keyID, nil},
		{"kms/setKeyRotation", `{"keyId":"alias/pay","period":"30d"}`, `{"keyId":"alias/pay","period":"1m"}`, "InvalidRequest", s.keyID, nil},
		{"kms/listKeyVersions", `{"keyId":"alias/pay"}`, `{"keyId":"alias/pay","limit":0}`, "InvalidRequest", s.keyID, nil},
		{"kms/scheduleKeyDeletion", `{"keyId":"alias/off"}`, `{"keyId":"alias/default"}`, "KeyInUse", s.offID, nil},
		{"kms/cancelKeyDeletion", `{"keyId":"alias/doomed"}`, `{"keyId":"alias/pay"}`, "Conflict", s.key("alias/doomed").ID, nil},
		{"kms/migrateBoundSecrets", `{"fromKeyId":"alias/default","toKeyId":"alias/worn"}`, `{"fromKeyId":"alias/default","toKeyId":"alias/off"}`, "KeyNotActive", s.key("alias/default").ID, nil},
		{"kms/retireKey", `{"keyId":"alias/default","toKeyId":"alias/worn"}`, `{"keyId":"alias/default"}`, "InvalidRequest", s.key("alias/default").ID, nil},
		{"kms/getKeyHealth", `{}`, `{"limit":0}`, "InvalidRequest", "", nil},
		{"kms/getImportParameters", `{"keyId":"alias/empty"}`, `{"keyId":"alias/pay"}`, "Conflict", s.key("alias/empty").ID, nil},
		{"kms/importKeyMaterial", `{"keyId":"alias/waiting","algorithm":"rsa-oaep-sha1","material":"` + s.material + `"}`, `{"keyId":"alias/waiting","algorithm":"rsa-oaep-sha1","material":"` + v + `"}`, "InvalidRequest", s.key("alias/waiting").ID, nil},
		{"kms/reEncrypt", `{"ciphertext":"` + s.ciphertext + `","toKeyId":"alias/pay"}`, `{"ciphertext":"` + s.ciphertext + `","toKeyId":"alias/off"}`, "KeyNotActive", s.keyID, nil},
		{"kms/generateDataKey", `{"keyId":"alias/pay"}`, `{"keyId":"alias/off"}`, "KeyNotActive", s.keyID, nil},
		{"kms/generateDataKeyWithoutPlaintext", `{"keyId":"alias/pay"}`, `{"keyId":"alias/off"}`, "KeyNotActive", s.keyID, nil},
		{"kms/sign", `{"keyId":"alias/sign","message":"aGk="}`, `{"keyId":"alias/pay","message":"aGk="}`, "InvalidRequest", s.key("alias/sign").ID, nil},
		{"kms/verify", `{"keyId":"alias/sign","message":"aGk=","signature":"` + s.signature + `"}`, `{"keyId":"alias/sign","message":"aGk="}`, "InvalidRequest", s.key("alias/sign").ID, nil},
		{"kms/getPublicKey", `{"keyId":"alias/sign"}`, `{"keyId":"alias/pay"}`, "InvalidRequest", s.key("alias/sign").ID, nil},
		{"kms/generateMac", `{"keyId":"alias/mac","message":"aGk="}`, `{"keyId":"alias/mac"}`, "InvalidRequest", s.key("alias/mac").ID, nil},
		{"kms/verifyMac", `{"keyId":"alias/mac","message":"aGk=","mac":"` + s.mac + `"}`, `{"keyId":"alias/mac","message":"aGk="}`, "InvalidRequest", s.key("alias/mac").ID, nil},
		{"kms/generateRandom", `{}`, `{"bytes":0}`, "InvalidRequest", "", nil},

		{"cluster/listJobs", `{}`, `{"state":"x"}`, "InvalidRequest", "", nil},
		{"cluster/describeJob", `{"jobId":"` + s.jobID + `"}`, `{"jobId":"` + absentID + `"}`, "NotFound", "job " + s.jobID, nil},
		{"cluster/pauseJob", `{"jobId":"` + s.jobID + `"}`, `{"jobId":"` + absentID + `"}`, "NotFound", "job " + s.jobID, nil},
		{"cluster/resumeJob", `{"jobId":"` + s.jobID + `"}`, `{"jobId":"` + absentID + `"}`, "NotFound", "job " + s.jobID, nil},
		{"cluster/cancelJob", `{"jobId":"` + s.jobID + `"}`, `{"jobId":"` + absentID + `"}`, "NotFound", "job " + s.jobID, nil},
		{"cluster/rotateRootKey", `{"ratePerSecond":10}`, `{"ratePerSecond":0}`, "InvalidRequest", "", nil},
		{"cluster/removeRootKey", `{"version":2}`, `{"version":1}`, "Conflict", "", nil},

		{"iam/createPrincipal", `{"name":"new","kind":"user"}`, `{"name":"svc","kind":"user"}`, "AlreadyExists", "new", nil},
		{"iam/listPrincipals", `{}`, `{"limit":0}`, "InvalidRequest", "", nil},
		{"iam/describePrincipal", `{"name":"svc"}`, `{"name":"none"}`, "NotFound", "svc", nil},
		{"iam/deletePrincipal", `{"name":"svc"}`, `{"name":"none"}`, "NotFound", "svc", nil},
		{"iam/createToken", `{"principal":"svc"}`, `{"principal":"none"}`, "NotFound", "svc", nil},
		{"iam/listTokens", `{"principal":"svc"}`, `{"limit":0}`, "InvalidRequest", "svc", nil},
		{"iam/revokeToken", `{"tokenId":"` + s.tokenID + `"}`, `{"tokenId":"` + absentID + `"}`, "NotFound", s.tokenID, nil},
		{"iam/createAccessKey", `{"principal":"svc"}`, `{"principal":"none"}`, "NotFound", "svc", nil},
		{"iam/listAccessKeys", `{"principal":"svc"}`, `{"limit":0}`, "InvalidRequest", "svc", nil},
		{"iam/deleteAccessKey", `{"accessKeyId":"` + s.accessKey + `"}`, `{"accessKeyId":"` + absentAccessKey + `"}`, "NotFound", s.accessKey, nil},
		{"iam/revokeTokens", `{"principal":"svc","accessKeys":true}`, `{"principal":"none"}`, "NotFound", "svc", nil},
		{"iam/logout", `{}`, `{"name":"x"}`, "InvalidRequest", "", nil},
		{"iam/whoAmI", `{}`, `{"name":"x"}`, "InvalidRequest", "", nil},
		{"iam/putPolicy", `{"name":"new","statements":[{"effect":"deny","actions":["*"]}]}`, `{"name":"full-access","statements":[{"effect":"deny","actions":["*"]}]}`, "Conflict", "new", nil},
		{"iam/getPolicy", `{"name":"loose"}`, `{"name":"none"}`, "NotFound", "loose", nil},
		{"iam/listPolicies", `{}`, `{"limit":0}`, "InvalidRequest", "", nil},
		{"iam/deletePolicy", `{"name":"loose"}`, `{"name":"attached"}`, "Conflict", "loose", nil},
		{"iam/attachPolicy", `{"policy":"loose","principal":"svc"}`, `{"policy":"none","principal":"svc"}`, "NotFound", "svc loose", nil},
		{"iam/detachPolicy", `{"policy":"attached","principal":"svc"}`, `{"policy":"full-access","principal":"admin"}`, "Conflict", "svc attached", nil},
		{"iam/openBreakGlass", `{"reason":"incident"}`, `{"reason":"incident","policies":["loose"]}`, "InvalidRequest", "incident", nil},
		{"iam/closeBreakGlass", `{"breakGlassId":"` + s.glass + `"}`, `{"breakGlassId":"` + absentID + `"}`, "NotFound", s.glass, nil},
		{"iam/listBreakGlass", `{"state":"duties"}`, `{"state":"done"}`, "InvalidRequest", "", nil},
		{"iam/reviewBreakGlass", `{"breakGlassId":"` + s.broken + `","notes":"seen"}`, `{"breakGlassId":"` + s.glass + `","notes":"seen"}`, "Conflict", s.broken, nil},
		{"iam/listPolicyRevisions", `{"name":"loose"}`, `{"name":"none"}`, "NotFound", "loose", nil},
		{"iam/rollbackPolicy", `{"name":"loose","revision":1}`, `{"name":"loose","revision":9}`, "NotFound", "loose", nil},
		{"iam/putRateLimit", `{"name":"new","kind":"valueReads","per":"principal","count":100}`, `{"name":"new","kind":"valueReads","per":"principal","count":0}`, "InvalidRequest", "new", nil},
		{"iam/listRateLimits", `{}`, `{"limit":0}`, "InvalidRequest", "", nil},
		{"iam/deleteRateLimit", `{"name":"slow"}`, `{"name":"none"}`, "NotFound", "slow", nil},
		{"iam/createGroup", `{"name":"new"}`, `{"name":"ops"}`, "AlreadyExists", "new", nil},
		{"iam/describeGroup", `{"name":"ops"}`, `{"name":"none"}`, "NotFound", "ops", nil},
		{"iam/listGroupMembers", `{"group":"ops"}`, `{"group":"none"}`, "NotFound", "ops", nil},
		{"iam/listGroups", `{}`, `{"limit":0}`, "InvalidRequest", "", nil},
		{"iam/deleteGroup", `{"name":"idle"}`, `{"name":"ops"}`, "Conflict", "idle", nil},
		{"iam/addToGroup", `{"group":"idle","principal":"svc","ttl":"2h"}`, `{"group":"none","principal":"svc"}`, "NotFound", "svc idle", nil},
		{"iam/removeFromGroup", `{"group":"ops","principal":"svc"}`, `{"group":"none","principal":"svc"}`, "NotFound", "svc ops", nil},
		{"iam/requestApproval", `{"operation":"secrets/deleteSecret","request":{"path":"/app/prod/held/x"},"reason":"unused"}`, `{"operation":"secrets/deleteSecret","request":{"path":"/app/dev/x"},"reason":"unused"}`, "Conflict", "secrets/deleteSecret", nil},
		{"iam/approve", `{"approvalId":"` + s.asked[0] + `"}`, `{"approvalId":"` + s.own[0] + `"}`, "Conflict", "eve secrets/deleteSecret", nil},
		{"iam/deny", `{"approvalId":"` + s.asked[0] + `","reason":"in use"}`, `{"approvalId":"` + absentID + `"}`, "NotFound", "eve secrets/deleteSecret", nil},
		{"iam/withdrawApproval", `{"approvalId":"` + s.own[0] + `"}`, `{"approvalId":"` + s.asked[0] + `"}`, "NotFound", "admin secrets/deleteSecret", nil},
		{"iam/describeApproval", `{"approvalId":"` + s.asked[0] + `"}`, `{"approvalId":"` + absentID + `"}`, "NotFound", "eve secrets/deleteSecret", nil},
		{"iam/listApprovals", `{}`, `{"limit":0}`, "InvalidRequest", "", nil},
		{"iam/explain", `{"principal":"svc","action":"secrets:getSecretValue","path":"` + db + `"}`, `{"principal":"none","action":"iam:listPolicies"}`, "NotFound", "svc secrets:getSecretValue on " + db, nil},
		{"iam/whoCan", `{"action":"secrets:getSecretValue","path":"` + db + `"}`, `{"action":"iam:listPolicies","limit":0}`, "InvalidRequest", "secrets:getSecretValue on " + db, nil},
		{"iam/whatCan", `{"principal":"svc"}`, `{"principal":"none"}`, "NotFound", "svc", nil},
		{"iam/simulatePolicy", `{"name":"loose","statements":[],"since":"1d"}`, `{"name":"none","statements":[]}`, "NotFound", "loose", nil},
		{"iam/lintPolicies", `{"policy":"loose"}`, `{"policy":"none"}`, "NotFound", "loose", nil},
		{"iam/putAccessPolicy", `{"name":"new","paths":["/x/**"],"sourceCidrs":["192.0.2.0/24"]}`, `{"name":"new","paths":["/x/**"]}`, "InvalidRequest", "new", nil},
		{"iam/getAccessPolicy", `{"name":"office"}`, `{"name":"none"}`, "NotFound", "office", nil},
		{"iam/listAccessPolicies", `{}`, `{"limit":0}`, "InvalidRequest", "", nil},
		{"iam/deleteAccessPolicy", `{"name":"office"}`, `{"name":"none"}`, "NotFound", "office", nil},

		{"iam/putTrust", `{"name":"new","kind":"certificate","caPem":"` + s.authority() + `","sans":["dns:web.example"],"principal":"svc"}`, `{"name":"new","kind":"jwt"}`, "InvalidRequest", "new", nil},
		{"iam/getTrust", `{"name":"ci"}`, `{"name":"none"}`, "NotFound", "ci", nil},
		{"iam/listTrusts", `{}`, `{"limit":0}`, "InvalidRequest", "", nil},
		{"iam/deleteTrust", `{"name":"other"}`, `{"name":"none"}`, "NotFound", "other", nil},
		{"iam/login", `{"trust":"ci","jwt":"` + s.jwts[0] + `"}`, `{"trust":"ci"}`, "InvalidRequest", "ci", nil},
		{"iam/describeLogin", `{"trust":"ci"}`, `{"trust":"none"}`, "NotFound", "ci", nil},

		{"iam/quarantinePrincipal", `{"principal":"svc","reason":"incident"}`, `{"principal":"none","reason":"incident"}`, "NotFound", "svc", nil},
		{"iam/releasePrincipal", `{"principal":"locked","reason":"incident"}`, `{"principal":"svc","reason":"incident"}`, "Conflict", "locked", nil},

		{"audit/describeDetectors", `{}`, `{"consistency":{"minIndex":99999999}}`, "Conflict", "", nil},
		{"audit/putDetectors", `{"learning":"3d","reason":"incident"}`, `{"learning":"1m"}`, "InvalidRequest", "", nil},
		{"audit/incident", `{"principal":"admin"}`, `{"principal":"svc","limit":0}`, "InvalidRequest", "admin", nil},
		{"audit/queryEvents", `{"event":"secrets.create"}`, `{"outcome":"maybe"}`, "InvalidRequest", "", nil},
		{"audit/getCheckpoint", `{}`, `{"node":"n9"}`, "NotFound", "", nil},
		{"audit/getProof", `{"node":"n1","sequence":1}`, `{"node":"n1"}`, "InvalidRequest", "", nil},
		{"audit/addCosignature", fmt.Sprintf(`{"note":%q}`, s.cosigned[0]), fmt.Sprintf(`{"note":%q}`, s.cosigned[0]+s.cosigned[1]), "InvalidRequest", "", nil},
		{"audit/exportEvents", `{"node":"n1"}`, `{"node":"n1","fromSequence":9,"toSequence":1}`, "InvalidRequest", "", nil},
		{"audit/listChains", `{}`, `{"name":"x"}`, "InvalidRequest", "", nil},
		{"cluster/status", `{}`, `{"name":"x"}`, "InvalidRequest", "", nil},
		{"cluster/transferLeadership", `{}`, `{"to":"n9"}`, "InvalidRequest", "", nil},
		{"cluster/saveSnapshot", `{}`, `{"name":"x"}`, "InvalidRequest", "", nil},
		{"cluster/verifySnapshot", `{}`, `{"name":"x"}`, "InvalidRequest", "", nil},
		{"cluster/addMember", `{"nodeId":"node9","address":"10.0.0.9:7401"}`, `{"nodeId":"node9","address":"10.0.0.9"}`, "InvalidRequest", "node9", nil},
		{"cluster/removeMember", `{"nodeId":"node8","reason":"incident"}`, `{"nodeId":"node7","reason":"incident"}`, "NotFound", "node8", nil},
		{"cluster/setVoter", `{"nodeId":"node8","voter":false}`, `{"nodeId":"node7","voter":false}`, "NotFound", "node8: no vote", nil},
		{"cluster/members", `{}`, `{"name":"x"}`, "InvalidRequest", "", nil},
		{"cluster/tls", `{}`, `{"name":"x"}`, "InvalidRequest", "", nil},
		{"cluster/getAutopilot", `{}`, `{"consistency":{"minIndex":99999999}}`, "Conflict", "", nil},
		{"cluster/setAutopilot", `{"minVoters":5}`, `{"minVoters":0}`, "InvalidRequest", "", nil},
		{"cluster/createJoinToken", `{"nodeId":"node9"}`, `{"nodeId":"node9","ttl":"31d"}`, "InvalidRequest", "node9", nil},
		{"cluster/listJoinTokens", `{}`, `{"limit":0}`, "InvalidRequest", "", nil},
		{"cluster/revokeJoinToken", `{"tokenId":"` + s.joinToken + `"}`, `{"tokenId":"` + absentID + `"}`, "NotFound", s.joinToken, nil},
		{"cluster/getRootKey", `{}`, `{"consistency":{"minIndex":99999999}}`, "Conflict", "", nil},
	}
}

// TestEveryOperationHasASample keeps the tests that go over all operations
// from missing a new one.
func TestEveryOperationHasASample(t *testing.T) {
	var have, want []string
	for _, c := range newStock(t).samples() {
		have = append(have, c.operation)
	}
	for _, o := range engine.Operations() {
		want = append(want, o.Path())
	}
	require.ElementsMatch(t, want, have)
}

// eachSample runs f for every operation, each on a stock of its own: what one
// request changes is nothing that the next one meets.
func eachSample(t *testing.T, f func(t *testing.T, s *stock, c sample)) {
	for i, c := range newStock(t).samples() {
		t.Run(c.operation, func(t *testing.T) {
			s := newStock(t)
			s.engine.Cluster.Transfer = transferNowhere
			f(t, s, s.samples()[i])
		})
	}
}

// holds reports whether text has mark in plain, in hex, or inside the base64
// of a longer text, at any of its three alignments.
func holds(text, mark string) bool {
	found := strings.Contains(text, mark) || strings.Contains(text, fmt.Sprintf("%x", mark)) || strings.Contains(text, fmt.Sprintf("%X", mark))
	for offset := range 3 {
		encoded := base64.StdEncoding.EncodeToString([]byte("xxx"[:offset] + mark))
		found = found || strings.Contains(text, encoded[4:len(encoded)-4])
	}
	return found
}

// forAnotherKey answers the ciphertext with a key id in its header that no
// key has.
func forAnotherKey(t *testing.T, ciphertext string) string {
	t.Helper()
	blob, err := base64.StdEncoding.DecodeString(ciphertext)
	require.NoError(t, err)
	blob[20] ^= 1
	return base64.StdEncoding.EncodeToString(blob)
}
