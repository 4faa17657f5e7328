package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
)

// A batch that began on one leader and was served by the next: the first had
// opened one value when it lost the leadership.
const storyOfABatch = `{"events":[
{"node":"n1","sequence":7,"time":"2026-03-04T05:06:07.001Z","requestId":"r1","event":"kms.decrypt","outcome":"ok","principal":"web","credentialId":"c1","sourceAddress":"192.0.2.7","keyId":"k1"},
{"node":"n3","sequence":40,"time":"2026-03-04T05:06:07.900Z","requestId":"r1","event":"kms.decrypt","outcome":"ok","principal":"web","credentialId":"c1","sourceAddress":"192.0.2.7","via":"n1","path":"/a","keyId":"k1","version":2},
{"node":"n1","sequence":8,"time":"2026-03-04T05:06:07.001Z","requestId":"r1","event":"secrets.batch_get_value","outcome":"failed","code":"NoLeader","principal":"web","credentialId":"c1","sourceAddress":"192.0.2.7","index":4,"durationMicros":900},
{"node":"n3","sequence":41,"time":"2026-03-04T05:06:07.900Z","requestId":"r1","event":"secrets.get_value","outcome":"ok","principal":"web","credentialId":"c1","sourceAddress":"192.0.2.7","via":"n1","path":"/a","version":2,"instance":"web-1","kms":[{"event":"kms.decrypt","keyId":"k1","keyVersion":3,"sequence":40,"cached":false}]},
{"node":"n3","sequence":42,"time":"2026-03-04T05:06:07.900Z","requestId":"r1","event":"secrets.get_value","outcome":"denied","code":"AccessDenied","principal":"web","credentialId":"c1","sourceAddress":"192.0.2.7","via":"n1","path":"/b","decisionId":"d1","reason":"noAllow\u001b[2J\n"},
{"node":"n3","sequence":43,"time":"2026-03-04T05:06:07.900Z","requestId":"r1","event":"secrets.batch_get_value","outcome":"ok","principal":"web","credentialId":"c1","sourceAddress":"192.0.2.7","via":"n1","breakGlassId":"g1","index":9,"durationMicros":1500}
],"unreachable":["n2"],"fromCopies":[{"node":"n1","chain":"aa","through":8,"missing":3}]}`

const toldOfABatch = `Request r1

2026-03-04T05:06:07.001Z  came in at n1 from 192.0.2.7
  asked by web, with credential c1
  secrets.batch_get_value
  ├─ kms.decrypt with key k1: ok; event 7 of n1
  └─ answered failed: NoLeader, at index 4, after 900µs; event 8 of n1

2026-03-04T05:06:07.900Z  came in at n1 from 192.0.2.7, handed on to n3
  asked by web, with credential c1
  secrets.batch_get_value
  ├─ allowed
  ├─ secrets.get_value /a, version 2: ok; event 41 of n3
  │  ├─ kms.decrypt with key k1, version 3: a call to the HSM, ok; event 40 of n3
  │  └─ handed to the consumer web-1
  ├─ secrets.get_value /b: denied, AccessDenied; event 42 of n3
  │  └─ denied (noAllow?[2J?), decision d1: strongroom explain d1
  ├─ because of the break-glass session g1
  └─ answered ok, at index 9, after 1.5ms; event 43 of n3

The trail of n1 was read from a copy of it, through event 8.
INCOMPLETE: neither n2 nor a copy of its trail could be asked: events may be missing
INCOMPLETE: the copy of the trail of n1 lacks at least 3 later events
`

func TestTheStoryOfARequestIsATree(t *testing.T) {
	c := fakeCluster(t, map[string]string{"audit/queryEvents": storyOfABatch})
	code, out, errOut := c.run("", "audit trace r1")
	require.Equal(t, exitDone, code, errOut)
	require.Equal(t, toldOfABatch, out)
	require.Equal(t, map[string]any{"requestId": "r1"}, c.last())

	code, out, errOut = c.run("", "audit trace r1 -o json")
	require.Equal(t, exitDone, code, errOut)
	var asked, printed wire.QueryEventsResponse
	require.NoError(t, json.Unmarshal([]byte(out), &printed))
	require.NoError(t, json.Unmarshal([]byte(storyOfABatch), &asked))
	require.ElementsMatch(t, asked.Events, printed.Events, "the events as they are")
	require.Equal(t, []string{"n2"}, printed.Unreachable)
	require.NotContains(t, out, "\x1b")
}

// What is not there is said, not guessed: the event of a use of a key that no
// trail answered, and one that has no place.
func TestAStorySaysWhatItLacks(t *testing.T) {
	c := fakeCluster(t, map[string]string{"audit/queryEvents": `{"events":[{"node":"n1","sequence":8,"time":"2026-03-04T05:06:07.001Z","requestId":"r1","event":"secrets.get_value","outcome":"ok","durationMicros":5,"sourceAddress":"192.0.2.7",
"kms":[{"event":"kms.decrypt","keyId":"k1","keyVersion":3,"sequence":7,"cached":true},{"event":"kms.decrypt","keyId":"k2","keyVersion":1,"sequence":0,"cached":false}]}]}`})
	code, out, errOut := c.run("", "audit trace r1")
	require.Equal(t, exitDone, code, errOut)
	require.Contains(t, out, "version 3: cached, no call to the HSM; event 7 of n1, which was not found\n")
	require.Contains(t, out, "version 1: a call to the HSM; its event is not known\n")
	require.Contains(t, out, "  asked by somebody who is not known\n")
}

func TestTheStoryTellsWhoApproved(t *testing.T) {
	c := fakeCluster(t, map[string]string{"audit/queryEvents": `{"events":[
{"node":"n1","sequence":3,"time":"2026-03-04T05:00:00Z","requestId":"r0","event":"iam.request_approval","outcome":"ok","principal":"ann","approvalId":"a1","durationMicros":4,"reason":"ticket 7"},
{"node":"n2","sequence":5,"time":"2026-03-04T05:01:00Z","requestId":"","event":"iam.approve","outcome":"denied","code":"AccessDenied","principal":"eve","approvalId":"a1","durationMicros":4},
{"node":"n1","sequence":8,"time":"2026-03-04T05:06:07Z","requestId":"r1","event":"secrets.destroy_version","outcome":"ok","principal":"ann","approvalId":"a1","path":"/a","version":1,"durationMicros":5}]}`})
	code, out, errOut := c.run("", "audit trace r1")
	require.Equal(t, exitDone, code, errOut)
	require.Equal(t, []string{"audit/queryEvents", "audit/queryEvents"}, c.asked)
	require.Equal(t, map[string]any{"approvalId": "a1"}, c.last())
	require.Contains(t, out, `
Approval a1
  ├─ 2026-03-04T05:00:00.000Z  iam.request_approval by ann: ok (ticket 7), in request r0
  ├─ 2026-03-04T05:01:00.000Z  iam.approve by eve: denied, AccessDenied, in request -
  └─ 2026-03-04T05:06:07.000Z  secrets.destroy_version by ann: ok, in this request
`)
	require.NotContains(t, out, "came in at n2", "another request is another story")
}

func TestARequestThatNoTrailKnows(t *testing.T) {
	c := fakeCluster(t, map[string]string{"audit/queryEvents": `{"events":[]}`})
	for _, format := range []string{"table", "json"} {
		code, out, errOut := c.run("", "audit trace r9\x1b -o "+format)
		require.Equal(t, exitFailed, code)
		require.Empty(t, out)
		require.Contains(t, errOut, "NotFound: no trail that could be asked has an event of request r9?\n  what to do:  is it the id of a request")
	}
	c.answers["audit/queryEvents"] = `{"events":[],"unreachable":["n2"]}`
	code, _, errOut := c.run("", "audit trace r9")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errOut, "what to do:  ask again later: neither n2 nor a copy of its trail could be asked")

	asked := len(c.asked)
	code, _, errOut = c.run("", "audit trace ")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errOut, "REQUEST-ID is empty")
	code, _, _ = c.run("", "audit trace")
	require.Equal(t, exitUsage, code)
	require.Len(t, c.asked, asked, "without an id all events would match")
}
