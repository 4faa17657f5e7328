package rotate

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

// scramIterations is what PostgreSQL itself takes (scram_iterations).
const scramIterations = 4096

// verifier makes what PostgreSQL keeps of a password (RFC 5802, RFC 7677), in
// its own form:
//
//	SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey
//
// So the password itself is never in a statement, and in no log of the server,
// of a pooler or of pg_stat_statements. The password must be ASCII: then
// SASLprep changes nothing.
func verifier(password []byte) (string, error) {
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("random bytes: %w", err)
	}
	return verifierWith(password, salt, scramIterations)
}

func verifierWith(password, salt []byte, iterations int) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, string(password), salt, iterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("key of the password: %w", err)
	}
	defer clear(salted)
	clientKey := mac(salted, "Client Key")
	defer clear(clientKey)
	storedKey, serverKey := sha256.Sum256(clientKey), mac(salted, "Server Key")
	text := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, text(salt), text(storedKey[:]), text(serverKey)), nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
