package wire_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

// samplesOf are requests of all kinds, for the fuzzer to begin with.
var samplesOf = []string{
	`{}`, `{"path":"/a/b"}`, `{"path":"/a/b","value":"AAAA","clientToken":"t","activate":false,"expectedVersion":3}`,
	`{"path":"/a/b","kind":"password","length":12,"include":["lower"],"exclude":"l1","create":true,"reveal":true}`,
	`{"items":[{"path":"/a/b","version":7},{"path":"/a/c","label":"previous"}]}`,
	`{"path":"/a/b","tags":{"a":"b"},"generate":{"kind":"uuid"},"reuseRetiredPath":true}`,
	`{"prefix":"/","recursive":true,"text":"x","limit":10,"cursor":"1.YQ","consistency":{"minIndex":7}}`,
	`{"path":"/a/b","version":1,"delay":"30d","reason":"r"}`, `{"path":"/a/b","recoveryWindow":"720h","force":false}`,
	`{"keyId":"alias/a","plaintext":"AAAA","context":{"a":"b"}}`, `{"ciphertext":"AAAA","context":{"a":"b"},"keyId":"alias/a"}`,
	`{"name":"p","statements":[{"effect":"allow","actions":["*"],"roles":[],"paths":["/a"],"keys":["*"],"conditions":{"tags":{"a":["1"]},"sourceCidrs":["10.0.0.0/8"]}}]}`,
	`{"name":"p","paths":["/a"],"sourceCidrs":["10.0.0.0/8"],"timeWindows":[{"days":["mon"],"from":"09:00","to":"17:30","timezone":"UTC"}],"notBefore":"2026-01-02T03:04:05.678Z"}`,
	`{"principal":"p","ttl":"24h","boundCidrs":["10.0.0.0/8"]}`, `{"from":"2026-01-02T03:04:05Z","to":"2026-01-03T03:04:05Z","outcome":"ok"}`,
	`{"consistency":{"maxStale":"5s"}}`, "{\"path\":\"\xff\"}", `{"path":"\ud800"}`, `{"conditions":{"a":1e400}}`,
}

// FuzzDecodeEveryRequest decodes what it likes as each request of the table.
// What is refused is the caller's fault and is told so; what is accepted can
// be encoded, means the same when it is read again, and is encoded to the
// same bytes: the hash that recognises a retry is over these.
func FuzzDecodeEveryRequest(f *testing.F) {
	for _, body := range samplesOf {
		f.Add([]byte(body))
	}
	types := map[reflect.Type]bool{}
	for _, o := range engine.Operations() {
		types[o.Request] = true
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for request := range types {
			in, again := reflect.New(request), reflect.New(request)
			if err := wire.Decode(body, in.Interface()); err != nil {
				require.Equal(t, fault.InvalidRequest, fault.KindOf(err), "%v", err)
				continue
			}
			var first, second bytes.Buffer
			require.NoError(t, wire.Encode(&first, in.Interface()), request.String())
			require.NoError(t, wire.Decode(first.Bytes(), again.Interface()), "%s %s", request, first.String())
			require.NoError(t, wire.Encode(&second, again.Interface()))
			require.Equal(t, first.String(), second.String(), request.String())
		}
	})
}

// TestEverySampleIsARequest keeps the seeds above from being refused by all.
func TestEverySampleIsARequest(t *testing.T) {
	for _, body := range samplesOf[:16] {
		accepted := 0
		for _, o := range engine.Operations() {
			if wire.Decode([]byte(body), reflect.New(o.Request).Interface()) == nil {
				accepted++
			}
		}
		require.Positive(t, accepted, body)
	}
}

// TestEveryFieldIsDescribed: the help of the command line and the reference
// are made of these.
func TestEveryFieldIsDescribed(t *testing.T) {
	for _, o := range engine.Operations() {
		described(t, o.Request)
	}
}

func described(t *testing.T, request reflect.Type) {
	t.Helper()
	for i := range request.NumField() {
		f := request.Field(i)
		if f.Anonymous {
			described(t, f.Type)
			continue
		}
		require.NotEmpty(t, f.Tag.Get("doc"), "%s.%s", request, f.Name)
		require.NotEmpty(t, f.Tag.Get("json"), "%s.%s", request, f.Name)
	}
}
