package wrapped

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every field, also one that is added some day, is authenticated, but the MAC
// itself; and every field is part of the name of a loaded handle.
func TestEveryFieldCounts(t *testing.T) {
	fields := reflect.TypeFor[Key]()
	require.Positive(t, fields.NumField())
	for i := range fields.NumField() {
		changed := example
		name := fields.Field(i).Name
		switch f := reflect.ValueOf(&changed).Elem().Field(i); f.Kind() {
		case reflect.String:
			f.SetString(f.String() + "x")
		case reflect.Uint32:
			f.SetUint(f.Uint() + 1)
		case reflect.Slice:
			f.SetBytes(append([]byte("x"), f.Bytes()...))
		default:
			t.Fatalf("%s: a kind of field that this test cannot change", name)
		}
		require.Equal(t, name == "MAC", string(example.Authenticated()) == string(changed.Authenticated()), name)
		require.NotEqual(t, example.Sum(), changed.Sum(), name)
	}
}
