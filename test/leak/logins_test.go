package leak_test

import (
	"encoding/json"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/issuer"
)

// logins trusts a real issuer for one test, and gives JWTs of it for tokens:
// neither may be found anywhere, whether they were let in or not.
func (w *traffic) logins(principal string) {
	idp := issuer.Start(w.t)
	authority, err := json.Marshal(idp.CAPEM)
	require.NoError(w.t, err)
	name := principal + "-trust"
	w.ok("iam/putTrust", `{"name":%q,"kind":"oidc","issuer":%q,"caPem":%s,"audiences":[%q],"clientId":%q,"claims":{"sub":%q},"principal":%q}`,
		name, idp.URL, authority, issuer.ClientID, issuer.ClientID, issuer.Person, principal)
	w.ok("iam/getTrust", `{"name":%q}`, name)
	w.ok("iam/listTrusts", `{}`)
	w.ok("iam/describeLogin", `{"trust":%q}`, name)
	jwt := idp.IDToken()
	w.add(mark{name: "a JWT that was let in", text: jwt[len(jwt)/2:]})
	token := w.ok("iam/login", `{"trust":%q,"jwt":%q}`, name, jwt)["token"].(string)
	w.add(mark{name: "a token of a login", text: token})
	wrong := idp.IDToken()
	wrong = wrong[:len(wrong)-20] + "AAAAAAAAAAAAAAAAAAAA"
	w.add(mark{name: "a JWT that was not let in", text: wrong[len(wrong)/2:]})
	for _, jwt := range []string{wrong, w.core} {
		r := w.c.Send(1+w.count%3, "", "iam/login", `{"trust":%q,"jwt":%q}`, name, jwt)
		require.Equal(w.t, "Unauthenticated", r.Code())
		w.answers = append(w.answers, answer{"a login that failed", string(r.Body)})
	}
	w.ok("iam/deleteTrust", `{"name":%q}`, name)
}
