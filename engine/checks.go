package engine

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// Bounds of what callers may store beside values.
const (
	maxText        = 1024
	maxTags        = 50
	maxTagValue    = 256
	maxContentType = 128
	maxClientToken = 64
	defaultLimit   = 100
	maxLimit       = 1000
)

func checkPath(field, path string) (names.Path, error) {
	p, err := names.ParsePath(path)
	if err != nil {
		return "", fault.Invalid(field, "%v", err)
	}
	if len(path) > iam.TokenChars {
		for _, segment := range p.Segments() {
			if err := checkNoToken(field, segment); err != nil {
				return "", err
			}
		}
	}
	return p, nil
}

func checkName(field, name string) error {
	if _, err := names.ParseName(name); err != nil {
		return fault.Invalid(field, "%v", err)
	}
	return checkNoToken(field, name)
}

// checkNoToken refuses a token or the secret of an access key where a name belongs: names are kept for ever,
// in the state and in the trail.
func checkNoToken(field, text string) error {
	if iam.IsCredential(text) {
		return fault.Invalid(field, "is the text of a token, or the secret of an access key; revoke that one now, and give a name")
	}
	return nil
}

// checkText bounds a text for people. Control characters are refused: such
// texts are shown on terminals.
func checkText(field, text string) error {
	if len(text) > maxText {
		return fault.Invalid(field, "has %d bytes; at most %d are allowed", len(text), maxText)
	}
	return checkPrintable(field, text)
}

func checkPrintable(field, text string) error {
	if !utf8.ValidString(text) {
		return fault.Invalid(field, "must be UTF-8")
	}
	for _, r := range text {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return fault.Invalid(field, "must not hold control characters")
		}
	}
	return nil
}

func checkTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return fault.Invalid("tags", "has %d entries; at most %d are allowed", len(tags), maxTags)
	}
	for name, value := range tags {
		if err := checkName("tags", name); err != nil {
			return err
		}
		if len(value) > maxTagValue {
			return fault.Invalid("tags."+name, "has %d bytes; at most %d are allowed", len(value), maxTagValue)
		}
		if err := checkPrintable("tags."+name, value); err != nil {
			return err
		}
	}
	return nil
}

func checkContentType(contentType string) error {
	if len(contentType) > maxContentType {
		return fault.Invalid("contentType", "has %d bytes; at most %d are allowed", len(contentType), maxContentType)
	}
	return checkPrintable("contentType", contentType)
}

func checkClientToken(token string) error {
	if len(token) > maxClientToken {
		return fault.Invalid("clientToken", "has %d characters; at most %d are allowed", len(token), maxClientToken)
	}
	for i := 0; i < len(token); i++ {
		if token[i] <= ' ' || token[i] > '~' {
			return fault.Invalid("clientToken", "must be printable ASCII without spaces")
		}
	}
	return nil
}

func (e *Engine) checkValue(field string, value *wire.Value) error {
	switch {
	case value == nil:
		return fault.Invalid(field, "is missing")
	case value.Len() == 0:
		return fault.Invalid(field, "must not be empty")
	case value.Len() > e.MaxValueBytes:
		return fault.New(fault.TooLarge, "%s: has %d bytes; at most %d are allowed", field, value.Len(), e.MaxValueBytes).With("field", field)
	}
	return nil
}

func checkVersion(field string, version *uint64, needed bool) (uint64, error) {
	switch {
	case version == nil && needed:
		return 0, fault.Invalid(field, "is missing")
	case version == nil:
		return 0, nil
	case *version == 0:
		return 0, fault.Invalid(field, "must be 1 or more; versions are numbered from 1")
	}
	return *version, nil
}

// findKey resolves a key reference. The scope it answers holds the key, or,
// if there is none, the reference, for authorisation to come first.
func (c *call) findKey(field, ref string) (scope, error) {
	if ref == "" {
		return scope{}, fault.Invalid(field, "is missing; give the id of a key or alias/NAME")
	}
	if _, err := names.ParseKeyRef(ref); err != nil {
		return scope{}, fault.Invalid(field, "%v", err)
	}
	return scope{key: c.state.KeyByRef(ref), keyRef: ref}, nil
}

func errNoKey(ref string) error {
	return fault.New(fault.NotFound, "keyId: there is no key %s; listKeys shows the keys", ref)
}

// page is a checked wire.Page.
type page struct {
	limit int
	after string
}

// cursorVersion starts every cursor, so that a later release can tell its
// own from older ones.
const cursorVersion = "1."

func checkPage(p wire.Page) (page, error) {
	out := page{limit: defaultLimit}
	if p.Limit != nil {
		if *p.Limit < 1 || *p.Limit > maxLimit {
			return out, fault.Invalid("limit", "must be 1 to %d", maxLimit)
		}
		out.limit = *p.Limit
	}
	if p.Cursor == "" {
		return out, nil
	}
	text, ok := strings.CutPrefix(p.Cursor, cursorVersion)
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if !ok || err != nil || !utf8.Valid(raw) || strings.ContainsAny(text, "\r\n") {
		return out, errCursor()
	}
	out.after = string(raw)
	return out, nil
}

func errCursor() error {
	return fault.Invalid("cursor", "is not a nextCursor of this operation; leave it out to start from the beginning")
}

// cursor encodes where the next page starts. It is not secret and not
// trusted: it only names a place in an order.
func cursor(after string) string {
	return cursorVersion + base64.RawURLEncoding.EncodeToString([]byte(after))
}

// checkConsistency serves minIndex; every read is linearizable anyway, so
// maxStale asks for less than it gets.
func (c *call) checkConsistency(want *wire.Consistency) error {
	if want == nil {
		return nil
	}
	if want.MinIndex != nil && want.MaxStale != nil {
		return fault.Invalid("consistency", "takes minIndex or maxStale, not both")
	}
	if want.MinIndex != nil && *want.MinIndex > c.state.Index() {
		return fault.New(fault.Conflict, "consistency.minIndex: index %d has not been reached; the cluster is at %d", *want.MinIndex, c.state.Index())
	}
	return nil
}

func errNoSecret(path names.Path) error {
	return fault.New(fault.NotFound, "path: there is no secret %s; createSecret makes one", path)
}

// secretAt answers the secret at path, NotFound if there is none or only a
// tombstone.
func (c *call) secretAt(path names.Path) (*fsm.Secret, error) {
	s := c.state.Secret(path)
	if s == nil || s.State == fsm.SecretPurged {
		return nil, errNoSecret(path)
	}
	return s, nil
}

// liveSecret is secretAt for what a secret in its recovery window refuses.
func (c *call) liveSecret(path names.Path) (*fsm.Secret, error) {
	s, err := c.secretAt(path)
	if err != nil {
		return nil, err
	}
	if s.State == fsm.SecretPendingDeletion {
		return nil, fault.New(fault.Conflict, "path: the secret is deleted and waits for the end of its recovery window; restoreSecret brings it back").
			With("state", string(s.State))
	}
	return s, nil
}

func labelsOf(s *fsm.Secret, version uint64) []string {
	out := []string{}
	for label, number := range s.Labels {
		if number == version {
			out = append(out, label)
		}
	}
	sortStrings(out)
	return out
}
