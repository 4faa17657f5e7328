package torture

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// weights say how often each kind of operation is done, by class.
var weights = map[string][]kind{
	"plain": {put, put, put, get, get, get, get, get, getOne, describe},
	"small": {put, put, get, get, get, getOne, getOne, describe, activate, activate, destroy, disable, enable},
	"key":   {use, use, use, use, use, disable, enable},
	"token": {use, use, use, use, use, use, use, use, use, use, use, use, use, use, use, revoke},
}

// expected are the refusals that each class may be answered with. Any other
// code is one that no fault excuses.
var expected = map[string]map[string]bool{
	"plain": {},
	"small": {"VersionNotActive": true, "Conflict": true},
	"key":   {"KeyNotActive": true, "Conflict": true},
	"token": {"Unauthenticated": true},
}

// perform does one operation on an object.
func (d *load) perform(c *client, o *object) {
	kinds := weights[o.class]
	did := op{Client: c.number, Kind: kinds[c.random.IntN(len(kinds))]}
	token, operation, body := d.lab.token, "", ""
	switch o.class {
	case "key":
		operation, body = d.keyRequest(c, o, &did)
	case "token":
		if did.Kind == use {
			token, operation, body = o.value, "iam/whoAmI", `{}`
		} else {
			operation, body = "iam/revokeToken", fmt.Sprintf(`{"tokenId":%q,"clientToken":%q}`, o.name, fresh())
		}
	default:
		operation, body = secretRequest(c, o, &did)
	}
	// Some clients give up early, and then do not know what happened.
	most := 60
	if c.random.IntN(8) == 0 {
		most = 1 + c.random.IntN(2)
	}
	writes := strings.Contains(body, `"clientToken"`)
	if !writes {
		most = min(most, 8)
	}
	did.Call = c.now()
	a, attempts, final := c.persist(token, operation, body, most)
	did.Return = c.now()
	switch {
	case !final && writes:
		did.Code = unknown
	case !final:
		did = op{} // a read that was not answered says nothing
	default:
		did.Node, did.Code, did.RequestID = a.node, a.code, a.requestID
		if a.code != "" && !expected[o.class][a.code] {
			d.complain("%s of %s by node%d: %d %s", did.Kind, o.name, a.node, a.status, a.body)
		}
		if a.code != "" && writes && attempts > 1 {
			// An earlier attempt may still be on its way, and be done after
			// this one was refused.
			did.Code = unknown
		}
		if a.code == "" {
			if err := d.understand(o, &did, a.body); err != nil {
				d.complain("%s of %s by node%d: %v", did.Kind, o.name, a.node, err)
			}
		}
	}
	o.end(did)
	d.note(did)
}

func fresh() string { return strings.ReplaceAll(uuid.NewString(), "-", "") }

func secretRequest(c *client, o *object, did *op) (operation, body string) {
	if did.Kind != put && did.Kind != get && did.Kind != describe {
		did.Version = 1 + c.random.IntN(o.highest())
	}
	one := fmt.Sprintf(`{"path":%q,"version":%d`, o.name, did.Version)
	write := one + fmt.Sprintf(`,"clientToken":%q,"reason":"torture"`, fresh())
	switch did.Kind {
	case put:
		did.Token = fresh()
		return "secrets/putSecretValue", fmt.Sprintf(`{"path":%q,"value":%q,"clientToken":%q}`, o.name, sealed(did.Token), did.Token)
	case get:
		return "secrets/getSecretValue", fmt.Sprintf(`{"path":%q}`, o.name)
	case getOne:
		return "secrets/getSecretValue", one + "}"
	case activate:
		return "secrets/setVersionLabel", write + `,"label":"current"}`
	case destroy:
		return "secrets/destroyVersion", write + `,"force":true}`
	case disable:
		return "secrets/disableVersion", write + "}"
	case enable:
		return "secrets/enableVersion", write + "}"
	}
	return "secrets/describeSecret", fmt.Sprintf(`{"path":%q}`, o.name)
}

func (d *load) keyRequest(c *client, o *object, did *op) (operation, body string) {
	switch did.Kind {
	case disable:
		return "kms/disableKey", fmt.Sprintf(`{"keyId":%q,"clientToken":%q}`, o.name, fresh())
	case enable:
		return "kms/enableKey", fmt.Sprintf(`{"keyId":%q,"clientToken":%q}`, o.name, fresh())
	}
	o.mu.Lock()
	cipher := o.cipher
	o.mu.Unlock()
	if cipher == "" || c.random.IntN(3) == 0 {
		did.Token = "encrypt"
		return "kms/encrypt", fmt.Sprintf(`{"keyId":%q,"plaintext":%q}`, o.name, sealed(o.name))
	}
	did.Token = "decrypt"
	return "kms/decrypt", fmt.Sprintf(`{"keyId":%q,"ciphertext":%q}`, o.name, cipher)
}

// understand reads an answer that says that it succeeded.
func (d *load) understand(o *object, did *op, body []byte) error {
	var got struct {
		Version, CurrentVersion, LatestVersion int
		VersionID, Ciphertext, State           string
		Principal                              string
		Value, Plaintext                       []byte
		Unchanged                              bool
	}
	if err := json.Unmarshal(body, &got); err != nil {
		return fmt.Errorf("an answer that is none: %w", err)
	}
	text := func(value []byte) (string, error) {
		token, ok := strings.CutPrefix(string(value), mark)
		if !ok {
			return "", fmt.Errorf("%d bytes that nobody has written", len(value))
		}
		return token, nil
	}
	var err error
	switch {
	case did.Kind == put:
		did.Version = got.Version
		if got.VersionID != did.Token || got.Unchanged {
			return fmt.Errorf("the put %s was answered as %s", did.Token, body)
		}
	case did.Kind == get:
		did.Version = got.Version
		did.Value, err = text(got.Value)
	case did.Kind == getOne:
		if got.Version != did.Version {
			return fmt.Errorf("version %d was asked for, and %d answered", did.Version, got.Version)
		}
		did.Value, err = text(got.Value)
	case did.Kind == describe:
		did.Version, did.Latest = got.CurrentVersion, got.LatestVersion
	case o.class == "key" && did.Token == "encrypt":
		o.mu.Lock()
		o.cipher = got.Ciphertext
		o.mu.Unlock()
		_, err = base64.StdEncoding.DecodeString(got.Ciphertext)
	case o.class == "key" && did.Token == "decrypt":
		did.Value, err = text(got.Plaintext)
		if err == nil && did.Value != o.name {
			return fmt.Errorf("decrypted is what another key has encrypted: %s", did.Value)
		}
	case o.class == "token" && did.Kind == use && got.Principal != "torture":
		return fmt.Errorf("the token is one of %q", got.Principal)
	}
	return err
}
