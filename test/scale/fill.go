// Package scale fills a state machine with many secrets, for tests and
// measurements of what finding one among them costs.
package scale

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/strongroom/strongroom/fsm"
)

// What the secrets look like: /app/ENV/service-NNNN/name-NNNNNN.
const (
	Services = 500 // in each environment
	// RareEvery of the secrets has the tag tier=gold. All have team=t0 to t49.
	RareEvery = 10_000
	teams     = 50
)

// Environments of the paths. Most secrets are in the first.
var Environments = [...]string{"prod", "prod", "prod", "prod", "prod", "prod", "prod", "prod", "stage", "test"}

// Path answers the path of the i-th secret.
func Path(i int) string {
	return fmt.Sprintf("/app/%s/service-%04d/name-%06d", Environments[i%len(Environments)], i/len(Environments)%Services, i)
}

// Fill makes n secrets, each with one version of 64 bytes that nobody can
// open, as commands after the last one. It answers the index of the last.
func Fill(m *fsm.Machine, n int) (uint64, error) {
	index, key := m.State().Index(), ""
	for k := range m.State().Keys("") {
		key = k.ID
	}
	for i := range n {
		encoded, err := fsm.Encode(secret(m.State().Time(), key, i))
		if err != nil {
			return index, err
		}
		index++
		result, err := m.Apply(index, encoded)
		if err != nil {
			return index, err
		}
		if result.Refused != nil {
			return index, fmt.Errorf("secret %d: %s", i, result.Refused.Message)
		}
	}
	return index, nil
}

func secret(now int64, key string, i int) fsm.CreateSecret {
	id := fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
	tags := map[string]string{"team": fmt.Sprintf("t%d", i%teams)}
	if i%RareEvery == RareEvery/2 {
		tags["tier"] = "gold"
	}
	return fsm.CreateSecret{
		Meta: fsm.Meta{Time: now, Principal: "admin", RequestID: id},
		Path: Path(i), SecretID: id, KeyID: key, Tags: tags, Description: "password of the main database",
		First: &fsm.NewVersion{
			Number: 1, VersionID: id, Size: 64, KeyID: key, KeyVersion: 1,
			// As long as they are in earnest: nonce, tag, header and IV included.
			Sealed: noise(i, 0, 93), DataKey: noise(i, 1, 110), Fingerprint: noise(i, 2, 32),
		},
	}
}

// noise answers bytes that do not compress, as ciphertext does not.
func noise(i, what, n int) []byte {
	var out []byte
	for block := 0; len(out) < n; block++ {
		var seed [24]byte
		binary.BigEndian.PutUint64(seed[:], uint64(i))
		binary.BigEndian.PutUint64(seed[8:], uint64(what))
		binary.BigEndian.PutUint64(seed[16:], uint64(block))
		sum := sha256.Sum256(seed[:])
		out = append(out, sum[:]...)
	}
	return out[:n:n]
}
