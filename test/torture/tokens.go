package torture

import (
	"fmt"
	"math"
)

// checkToken holds the uses of a token against its making and its revocation.
func checkToken(ops []op) []string {
	var wrong []string
	revoked, tried := int64(math.MaxInt64), int64(math.MaxInt64)
	for _, o := range ops {
		if o.Kind != revoke {
			continue
		}
		if o.ok() {
			revoked = min(revoked, o.Return)
		}
		if o.ok() || o.Code == unknown {
			tried = min(tried, o.Call)
		}
	}
	for _, o := range ops {
		switch {
		case o.Kind != use:
		case o.ok() && o.Call > revoked:
			wrong = append(wrong, fmt.Sprintf("client %d used the token by node%d after its revocation was acknowledged", o.Client, o.Node))
		case o.Code == "Unauthenticated" && o.Return < tried:
			wrong = append(wrong, fmt.Sprintf("client %d was refused by node%d with a token that nobody had revoked", o.Client, o.Node))
		}
	}
	return wrong
}
