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
	v := reflect.ValueOf(req)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return req
	}
	w := v.Elem().FieldByName("Write")
	if !w.IsValid() || w.Type() != reflect.TypeFor[wire.Write]() || w.Interface().(wire.Write).ClientToken != "" {
		return req
	}
	own := reflect.New(v.Elem().Type())
	own.Elem().Set(v.Elem())
	own.Elem().FieldByName("Write").Set(reflect.ValueOf(wire.Write{ClientToken: newToken()}))
	return own.Interface()
}

// newToken makes 52 characters: with 32 or more it is also the versionId of
// the version that the write makes.
func newToken() string { return rand.Text() + rand.Text() }
