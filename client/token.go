package client

import (
	"crypto/rand"
	"reflect"

	"github.com/strongroom/strongroom/api/wire"
)

// withClientToken answers req, a pointer to a request, or a copy of it with a
// fresh clientToken where it is a write without one. The copy shares the
// plaintext with req.
func withClientToken(req any) any {
	w, ok := writeOf(req)
	if !ok || w.ClientToken != "" {
		return req
	}
	v := reflect.ValueOf(req).Elem()
	own := reflect.New(v.Type())
	own.Elem().Set(v)
	own.Elem().FieldByName("Write").Set(reflect.ValueOf(wire.Write{ClientToken: newToken()}))
	return own.Interface()
}

// isWrite reports whether req is of an operation that changes something.
func isWrite(req any) bool {
	_, ok := writeOf(req)
	return ok
}

// writeOf answers the part that requests of writes have in common.
func writeOf(req any) (wire.Write, bool) {
	v := reflect.ValueOf(req)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return wire.Write{}, false
	}
	w := v.Elem().FieldByName("Write")
	if !w.IsValid() {
		return wire.Write{}, false
	}
	write, ok := w.Interface().(wire.Write)
	return write, ok
}

// newToken makes 52 characters: with 32 or more it is also the versionId of
// the version that the write makes.
func newToken() string { return rand.Text() + rand.Text() }
