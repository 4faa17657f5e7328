package torture

import (
	"math"
	"sync"
)

// kind is what a client asked for.
type kind string

const (
	put      kind = "put"      // add a version, and make it current
	get      kind = "get"      // read the current version
	getOne   kind = "getOne"   // read one version
	describe kind = "describe" // ask which version is current, and which the latest
	activate kind = "activate"
	destroy  kind = "destroy"
	disable  kind = "disable"
	enable   kind = "enable"
	use      kind = "use" // encrypt or decrypt under a key; prove who one is by a token
	revoke   kind = "revoke"
)

// unknown is the code of an operation that nobody answered for good: it may
// have happened at any time since its call, may yet happen, or never will.
const unknown = "?"

// never is the return of an operation whose outcome is unknown.
const never = math.MaxInt64

// op is one operation as its client saw it. Its interval is closed: from
// before the first request was sent until after the answer was read.
type op struct {
	Client    int    `json:"client"`
	Node      int    `json:"node,omitempty"` // that answered
	Kind      kind   `json:"kind"`
	Version   int    `json:"version,omitempty"` // asked for, or answered
	Latest    int    `json:"latest,omitempty"`
	Token     string `json:"token,omitempty"` // clientToken of a put, which is the versionId and is in its value
	Value     string `json:"value,omitempty"` // read, without what all values begin with
	Code      string `json:"code,omitempty"`  // empty: it succeeded
	Call      int64  `json:"call"`
	Return    int64  `json:"return"`
	RequestID string `json:"requestId,omitempty"`
}

func (o op) ok() bool { return o.Code == "" }

// object is one thing that clients use together, with what they saw of it: a
// secret, a key or a token.
type object struct {
	class string // plain, small, key or token
	name  string // path, id of the key, id of the token
	value string // text of the token

	mu       sync.Mutex
	ops      []op
	pending  int // operations that are under way
	unknowns int
	top      int    // highest version that was acknowledged
	cipher   string // something that a key has encrypted
	retired  bool
}

// begin takes part in the object, unless it is retired.
func (o *object) begin() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.retired {
		return false
	}
	o.pending++
	return true
}

func (o *object) end(did op) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pending--
	if did.Kind == "" {
		return
	}
	if did.Code == unknown {
		did.Return = never
		o.unknowns++
	}
	if did.Kind == put && did.ok() {
		o.top = max(o.top, did.Version)
	}
	o.ops = append(o.ops, did)
}

// worn reports whether the object has enough in its history. porcupine takes
// time and memory that grow without bound with unknown outcomes.
func (o *object) worn() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	most, mostUnknown := 400, 8
	switch o.class {
	case "plain":
		most, mostUnknown = 20000, math.MaxInt
	case "key":
		most = 150
	case "token":
		most = 40
	}
	return len(o.ops) >= most || o.unknowns >= mostUnknown
}

// retire ends the use of an object; settled says when its history is whole.
func (o *object) retire() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.retired = true
}

func (o *object) settled() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.retired && o.pending == 0
}

func (o *object) highest() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.top
}
