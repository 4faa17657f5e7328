package wire

// ReEncryptRequest moves a ciphertext to another key, or context, without
// showing what is in it.
type ReEncryptRequest struct {
	Ciphertext Bytes             `json:"ciphertext" doc:"what encrypt answered, base64"`
	Context    map[string]string `json:"context,omitzero" doc:"the context that was given to encrypt"`
	ToKeyID    string            `json:"toKeyId" doc:"id of the key, or alias/NAME"`
	ToContext  map[string]string `json:"toContext,omitzero" doc:"the context of the new ciphertext"`
}

// GenerateDataKeyRequest asks for random bytes and the same sealed under a
// key.
type GenerateDataKeyRequest struct {
	KeyID   string            `json:"keyId" doc:"id of the key (aes-256), or alias/NAME"`
	Bytes   *int              `json:"bytes,omitzero" doc:"1-1024 (default 32)"`
	Context map[string]string `json:"context,omitzero" doc:"bound as additional authenticated data; decrypt needs the same"`
}

// GenerateDataKeyResponse carries both; keep ciphertext, forget plaintext.
type GenerateDataKeyResponse struct {
	Plaintext  *Value `json:"plaintext"`
	Ciphertext Bytes  `json:"ciphertext"`
	KeyID      string `json:"keyId"`
	KeyVersion uint32 `json:"keyVersion"`
}

// SealedDataKeyResponse is a data key that nobody has seen; decrypt opens it.
type SealedDataKeyResponse struct {
	Ciphertext Bytes  `json:"ciphertext"`
	KeyID      string `json:"keyId"`
	KeyVersion uint32 `json:"keyVersion"`
}

// SignRequest asks for a signature.
type SignRequest struct {
	KeyID     string `json:"keyId" doc:"id of the key, or alias/NAME"`
	Algorithm string `json:"algorithm,omitzero" doc:"rsa-pss-sha256, rsa-pkcs1-sha256 (and 384, 512), ecdsa-sha256, ecdsa-sha384; default: the first of the key's algorithms"`
	Message   *Value `json:"message,omitzero" doc:"what to sign, at most 64 KiB, base64"`
	Digest    Bytes  `json:"digest,omitzero" doc:"instead of message: its hash, base64"`
}

// SignResponse carries a signature; ECDSA signatures are DER.
type SignResponse struct {
	Signature  Bytes  `json:"signature"`
	Algorithm  string `json:"algorithm"`
	KeyID      string `json:"keyId"`
	KeyVersion uint32 `json:"keyVersion"`
}

// VerifyRequest asks whether a signature is of a message.
type VerifyRequest struct {
	KeyID      string `json:"keyId" doc:"id of the key, or alias/NAME"`
	Algorithm  string `json:"algorithm,omitzero" doc:"as for sign"`
	Message    *Value `json:"message,omitzero" doc:"what was signed, at most 64 KiB, base64"`
	Digest     Bytes  `json:"digest,omitzero" doc:"instead of message: its hash, base64"`
	Signature  Bytes  `json:"signature" doc:"base64"`
	KeyVersion uint32 `json:"keyVersion,omitzero" doc:"the version that signed; absent: the newest 32 are tried"`
}

// VerifyResponse answers; keyVersion is the version that fits.
type VerifyResponse struct {
	Valid      bool   `json:"valid"`
	KeyID      string `json:"keyId"`
	KeyVersion uint32 `json:"keyVersion,omitzero"`
}

// GetPublicKeyRequest asks for the public half of a key.
type GetPublicKeyRequest struct {
	KeyID      string `json:"keyId" doc:"id of the key, or alias/NAME"`
	KeyVersion uint32 `json:"keyVersion,omitzero" doc:"default the current version"`
}

// GetPublicKeyResponse carries it as PEM (SubjectPublicKeyInfo).
type GetPublicKeyResponse struct {
	PublicKey  string   `json:"publicKey"`
	Spec       string   `json:"spec"`
	Usage      string   `json:"usage"`
	Algorithms []string `json:"algorithms"`
	KeyID      string   `json:"keyId"`
	KeyVersion uint32   `json:"keyVersion"`
}

// GenerateMACRequest asks for an HMAC-SHA-256.
type GenerateMACRequest struct {
	KeyID   string `json:"keyId" doc:"id of the key (hmac-256), or alias/NAME"`
	Message *Value `json:"message" doc:"at most 64 KiB, base64"`
}

// GenerateMACResponse carries it.
type GenerateMACResponse struct {
	MAC        Bytes  `json:"mac"`
	KeyID      string `json:"keyId"`
	KeyVersion uint32 `json:"keyVersion"`
}

// VerifyMACRequest asks whether a MAC is of a message.
type VerifyMACRequest struct {
	KeyID      string `json:"keyId" doc:"id of the key (hmac-256), or alias/NAME"`
	Message    *Value `json:"message" doc:"at most 64 KiB, base64"`
	MAC        Bytes  `json:"mac" doc:"base64"`
	KeyVersion uint32 `json:"keyVersion,omitzero" doc:"the version that made it; absent: the newest 32 are tried"`
}

// GenerateRandomRequest asks for random bytes.
type GenerateRandomRequest struct {
	Bytes *int `json:"bytes,omitzero" doc:"1-4096 (default 32)"`
}

// GenerateRandomResponse carries them: the HSM's, mixed with the node's.
type GenerateRandomResponse struct {
	Random *Value `json:"random"`
}
