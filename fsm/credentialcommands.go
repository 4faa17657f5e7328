package fsm

// The commands of access keys, of ending the credentials of a principal, and
// of when credentials were used last.

// CreateAccessKey adds an access key. Its secret is nowhere in it: only an
// HSM can tell that.
type CreateAccessKey struct {
	Meta Meta      `cbor:"1,keyasint,omitempty"`
	Key  AccessKey `cbor:"2,keyasint,omitempty"`
}

// DeleteAccessKey ends an access key for good.
type DeleteAccessKey struct {
	Meta Meta   `cbor:"1,keyasint,omitempty"`
	ID   string `cbor:"2,keyasint,omitempty"`
}

// RevokeTokens ends every token of a principal that has not ended, and, with
// AccessKeys, deletes its access keys.
type RevokeTokens struct {
	Meta       Meta   `cbor:"1,keyasint,omitempty"`
	Principal  string `cbor:"2,keyasint,omitempty"`
	AccessKeys bool   `cbor:"3,keyasint,omitempty"`
}

// RecordCredentialUse says when, and from where, credentials were used last.
type RecordCredentialUse struct {
	Meta Meta            `cbor:"1,keyasint,omitempty"`
	Uses []CredentialUse `cbor:"2,keyasint,omitempty"`
}

// Kind answers the number of the command.
func (CreateAccessKey) Kind() Kind     { return KindCreateAccessKey }
func (DeleteAccessKey) Kind() Kind     { return KindDeleteAccessKey }
func (RevokeTokens) Kind() Kind        { return KindRevokeTokens }
func (RecordCredentialUse) Kind() Kind { return KindRecordCredentialUse }

func (c CreateAccessKey) meta() Meta     { return c.Meta }
func (c DeleteAccessKey) meta() Meta     { return c.Meta }
func (c RevokeTokens) meta() Meta        { return c.Meta }
func (c RecordCredentialUse) meta() Meta { return c.Meta }
