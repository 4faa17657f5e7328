package engine_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/test/scale"
)

// rulesOf compiles one policy about listing.
func rulesOf(t require.TestingT, statements ...iam.Statement) iam.Rules {
	for i := range statements {
		statements[i].Actions = []string{"secrets:listSecrets"}
	}
	policy, _, err := iam.CompilePolicy(iam.NewCatalogue([]iam.Action{"secrets:listSecrets"}), "p", 1, statements)
	require.NoError(t, err)
	return iam.Rules{Policies: iam.Set(policy)}
}

func allowed(paths ...string) iam.Statement {
	return iam.Statement{Effect: iam.Allow, Paths: paths}
}

func denied(paths ...string) iam.Statement { return iam.Statement{Effect: iam.Deny, Paths: paths} }

// TestAPageCostsWhatItShows: `make million` measures the time; here it is the
// work that is counted, which does not depend on the machine.
func TestAPageCostsWhatItShows(t *testing.T) {
	const many = 20_000
	w := newWorld(t)
	_, err := scale.Fill(w.log.machine, many)
	require.NoError(t, err)
	state := w.log.machine.State()
	all := allowed("/**")
	for name, c := range map[string]struct {
		r      wire.ListSecretsRequest
		rules  iam.Rules
		after  string
		most   int // work
		found  int
		unsure bool // a page may end before its work is done
	}{
		"first page of a browse":  {wire.ListSecretsRequest{Prefix: "/"}, rulesOf(t, all), "", 100, 1, false},
		"a folder of many":        {wire.ListSecretsRequest{Prefix: "/app/"}, rulesOf(t, all), "", 200, 3, false},
		"in the middle":           {wire.ListSecretsRequest{Prefix: "/", Recursive: true}, rulesOf(t, all), scale.Path(many / 2), 2000, 100, false},
		"a tag of few":            {wire.ListSecretsRequest{Prefix: "/", Recursive: true, Tags: map[string]string{"tier": "gold"}}, rulesOf(t, all), "", 100, many / scale.RareEvery, false},
		"a tag of few and many":   {wire.ListSecretsRequest{Prefix: "/", Recursive: true, Tags: map[string]string{"tier": "gold", "team": "t0"}}, rulesOf(t, all), "", 600, many / scale.RareEvery, false},
		"a tag of none":           {wire.ListSecretsRequest{Prefix: "/", Recursive: true, Tags: map[string]string{"tier": "lead"}}, rulesOf(t, all), "", 0, 0, false},
		"a text of none":          {wire.ListSecretsRequest{Prefix: "/", Recursive: true, Text: "absent"}, rulesOf(t, all), "", engine.PageWork + 20, 0, true},
		"one service":             {wire.ListSecretsRequest{Prefix: "/", Recursive: true}, rulesOf(t, allowed("/app/test/service-0042/**")), "", 200, 4, false},
		"one service, browsing":   {wire.ListSecretsRequest{Prefix: "/"}, rulesOf(t, allowed("/app/test/service-0042/**")), "", 100, 1, false},
		"one service, text":       {wire.ListSecretsRequest{Prefix: "/", Recursive: true, Text: "absent"}, rulesOf(t, allowed("/app/test/service-0042/**")), "", 100, 0, false},
		"one secret":              {wire.ListSecretsRequest{Prefix: "/", Recursive: true}, rulesOf(t, allowed(scale.Path(7))), "", 100, 1, false},
		"elsewhere":               {wire.ListSecretsRequest{Prefix: "/app/prod/", Recursive: true}, rulesOf(t, allowed("/app/test/**")), "", 0, 0, false},
		"no rights":               {wire.ListSecretsRequest{Prefix: "/", Recursive: true}, iam.Rules{}, "", 0, 0, false},
		"all of it denied":        {wire.ListSecretsRequest{Prefix: "/", Recursive: true}, rulesOf(t, all, denied("/app/**")), "", engine.PageWork + 20, 0, true},
		"a star that reaches few": {wire.ListSecretsRequest{Prefix: "/", Recursive: true}, rulesOf(t, allowed("/app/*/service-0499/**")), "", engine.PageWork + 20, 0, true},
	} {
		page, work, _, more := engine.ListPage(state, c.rules, &c.r, 100, c.after)
		require.LessOrEqual(t, work, c.most, name)
		if !c.unsure {
			require.Equal(t, c.found, len(page.Folders)+len(page.Secrets), name)
		}
		require.Equal(t, c.unsure || c.found == 100, more, name)
	}
}

// TestAnUnfinishedPageNamesNothingHidden: it ends at a secret that its reader
// must not know of, and its cursor does not tell which, nor how long its name
// is. Only its reader can go on with it.
func TestAnUnfinishedPageNamesNothingHidden(t *testing.T) {
	w := newWorld(t)
	_, err := scale.Fill(w.log.machine, 14_000)
	require.NoError(t, err)
	w.log.index = w.log.machine.State().Index()
	w.ok("secrets/createSecret", `{"path":"/zoo/seen"}`)
	policy := `[{"effect":"allow","roles":["secrets-read-access"],"paths":["/**"]},{"effect":"deny","roles":["secrets-read-access"],"paths":["/app/**"]}]`
	token, other := w.principal("reader", policy), w.principal("other", policy)
	lengths := map[int]bool{}
	cursor, pages := "", 0
	for {
		body := fmt.Sprintf(`{"recursive":true,"cursor":%q}`, cursor)
		answer, err := w.as(token, "secrets/listSecrets", body)
		require.NoError(t, err)
		page := into[wire.ListSecretsResponse](t, answer)
		if pages++; page.NextCursor == "" {
			require.Len(t, page.Secrets, 1)
			require.Equal(t, "/zoo/seen", page.Secrets[0].Path)
			break
		}
		require.Empty(t, page.Secrets)
		require.True(t, strings.HasPrefix(page.NextCursor, "2."))
		raw, err := base64.RawURLEncoding.DecodeString(page.NextCursor[2:])
		require.NoError(t, err)
		require.NotContains(t, string(raw), "/app/")
		require.NotContains(t, string(raw), "service")
		lengths[len(raw)] = true
		cursor = page.NextCursor
		_, err = w.as(other, "secrets/listSecrets", fmt.Sprintf(`{"recursive":true,"cursor":%q}`, cursor))
		w.refused(fault.InvalidRequest, "cursor:", err)
		flipped := []byte(cursor)
		flipped[len(flipped)/2] ^= 1
		_, err = w.as(token, "secrets/listSecrets", fmt.Sprintf(`{"recursive":true,"cursor":%q}`, flipped))
		w.refused(fault.InvalidRequest, "cursor:", err)
	}
	require.Greater(t, pages, 2)
	require.Len(t, lengths, 1)

	// Who sees where the page ends gets a cursor that needs no HSM.
	w.token.Down.Store(true)
	answer, err := w.as(w.admin, "secrets/listSecrets", `{"recursive":true,"text":"absent"}`)
	require.NoError(t, err)
	require.Contains(t, answer, `"nextCursor":"1.`)
	// The HSM is asked once; then the key is there.
	_, err = w.as(token, "secrets/listSecrets", `{"recursive":true}`)
	require.NoError(t, err)
}
