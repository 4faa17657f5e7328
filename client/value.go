package client

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/strongroom/strongroom/internal/secret"
)

// Value is one version of a secret, as a Cache hands it out: a copy of its
// own, which is valid until its holder calls Wipe. The cache never touches it
// again, and whoever got it should wipe it when done.
//
// No verb of fmt, no logger and no encoder shows the bytes.
type Value struct {
	plain       secret.Bytes
	path        string
	version     uint64
	versionID   string
	contentType string
	expiresAt   time.Time
}

// Expose answers the bytes themselves, no copy: valid until Wipe, nil after
// it. Every use of Expose is a place to review.
func (v *Value) Expose() []byte { return v.plain.Expose() }

// Wipe overwrites the bytes. It may be called any number of times, while
// nobody reads an exposed slice.
func (v *Value) Wipe() { v.plain.Wipe() }

// Path is the path of the secret.
func (v *Value) Path() string { return v.path }

// Version is the number of the version, VersionID its name.
func (v *Value) Version() uint64 { return v.version }

// VersionID is never used again, unlike a number of a path that was purged and
// made anew.
func (v *Value) VersionID() string { return v.versionID }

// ContentType is the media type that was stored with the value, if any.
func (v *Value) ContentType() string { return v.contentType }

// ExpiresAt is when the version expires; the zero time if never.
func (v *Value) ExpiresAt() time.Time { return v.expiresAt }

// Format makes every verb of fmt print the same: the path, never the value.
func (v *Value) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(v.String())) }

// String names path and version.
func (v *Value) String() string {
	if v == nil {
		return "[no secret]"
	}
	return fmt.Sprintf("[secret %s version %d]", v.path, v.version)
}

// GoString is String.
func (v *Value) GoString() string { return v.String() }

// LogValue is String.
func (v *Value) LogValue() slog.Value { return slog.StringValue(v.String()) }

// MarshalJSON refuses, and so does MarshalText: a value leaves only where code
// says Expose.
func (v *Value) MarshalJSON() ([]byte, error) { return v.plain.MarshalJSON() }

// MarshalText refuses.
func (v *Value) MarshalText() ([]byte, error) { return v.plain.MarshalText() }
