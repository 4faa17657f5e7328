package engine

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
)

// spied is a request that shows its plaintext to the test before it fails to
// decode any further.
type spied struct {
	Value *wire.Value
}

var spiedPlain []byte

func (s *spied) UnmarshalJSONFrom(*jsontext.Decoder) error {
	spiedPlain = []byte("plaintext")
	s.Value = wire.NewValue(spiedPlain)
	return errors.New("an unknown member came after the value")
}

// TestAValueIsWipedAlsoWhenTheRestDoesNotDecode: the value comes before what
// is wrong with the request.
func TestAValueIsWipedAlsoWhenTheRestDoesNotDecode(t *testing.T) {
	o := operation(row[spied, wire.EmptyRequest]{service: "test", name: "spied"})
	_, err := o.do(context.Background(), &call{}, []byte(`{"value":"AAAA"}`))
	require.Error(t, err)
	require.Equal(t, make([]byte, 9), spiedPlain)
}

// TestPlaintextOfRequestsIsWipedWhereverItIs looks at every request of the
// table: a value in a place that wipeRequest does not reach would stay.
func TestPlaintextOfRequestsIsWipedWhereverItIs(t *testing.T) {
	plain := []byte("plaintext")
	req := wire.CreateSecretRequest{Value: wire.NewValue(plain)}
	(&call{}).wipeRequest(&req)
	require.Equal(t, make([]byte, 9), plain)
	for _, o := range Operations() {
		for i := range o.Request.NumField() {
			f := o.Request.Field(i)
			require.NotEqual(t, "wire.Value", f.Type.String(), "%s.%s must be a pointer, which wipeRequest finds", o.Request, f.Name)
			require.NotContains(t, f.Type.String(), "[]*wire.Value", "%s.%s is not wiped", o.Request, f.Name)
		}
	}
}

func TestABufferIsWipedWithThePiecesThatItOutgrew(t *testing.T) {
	var w wipingBuffer
	var pieces [][]byte
	for range 20 {
		_, err := w.Write(bytes.Repeat([]byte("x"), 100))
		require.NoError(t, err)
		pieces = append(pieces, w.b[:cap(w.b)])
	}
	require.Len(t, w.b, 2000)
	w.wipe()
	for i, piece := range pieces {
		require.NotContains(t, string(piece), "x", "piece %d", i)
	}
}
