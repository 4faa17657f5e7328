package leak_test

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// rotations has the cluster make a value and begins to look for it, and has
// it open a login for a server that it may not connect to.
func (w *traffic) rotations(path string) {
	own := path + "-rotated"
	w.ok("secrets/createSecret", `{"path":%q}`, own)
	w.ok("secrets/updateSecret", `{"path":%q,"rotation":{"kind":"generate","interval":"30d","generate":{"kind":"password","length":40}}}`, own)
	w.ok("secrets/rotateSecret", `{"path":%q,"reason":"of the leak test"}`, own)
	w.c.Await("a rotation", func() bool {
		return w.ok("secrets/describeSecret", `{"path":%q}`, own)["currentVersion"].(float64) == 1
	})
	raw, err := json.Marshal(w.ok("secrets/getSecretValue", `{"path":%q}`, own))
	require.NoError(w.t, err)
	value, err := localcluster.Response{Status: http.StatusOK, Body: raw}.Value()
	require.NoError(w.t, err)
	w.add(mark{name: "rotated", text: value})

	admin, turns := path+"-admin", path+"-turns"
	login := fmt.Sprintf(`{"host":"db.example.com","username":"admin","password":%q}`, w.value())
	w.ok("secrets/createSecret", `{"path":%q,"value":%q}`, admin, localcluster.B64(login))
	w.ok("secrets/createSecret", `{"path":%q,"value":%q}`, turns, w.value64())
	w.ok("secrets/updateSecret", `{"path":%q,"rotation":{"kind":"postgresql","adminSecret":%q,"usernames":["a","b"]}}`, turns, admin)
	w.ok("secrets/rotateSecret", `{"path":%q}`, turns)
	w.c.Await("a refusal to connect", func() bool {
		rotation := w.ok("secrets/describeSecret", `{"path":%q}`, turns)["rotation"].(map[string]any)
		return rotation["lastError"] != nil
	})
	w.ok("secrets/cancelRotation", `{"path":%q,"force":true}`, turns)
}
