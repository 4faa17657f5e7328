package engine

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/kms"
)

// FullAccess is the policy that init makes and attaches to the first
// administrator.
const FullAccess = "full-access"

// GenesisInput is what init knows.
type GenesisInput struct {
	ClusterID string
	Now       time.Time
	Token     kms.Token // an HSM that holds the root key
	Root      fsm.Root
	AdminName string
	AdminTTL  time.Duration
}

// Genesis makes the first command of a cluster: the root key's description
// and copies, a default KMS key, and an administrator with a token. The
// token's text is answered once and kept nowhere.
func Genesis(ctx context.Context, in GenesisInput) (command []byte, adminToken secret.Bytes, err error) {
	if _, err := uuid.Parse(in.ClusterID); err != nil {
		return nil, secret.Bytes{}, fmt.Errorf("genesis: cluster id: %w", err)
	}
	now := in.Now.UnixMilli()
	keyID := uuid.NewString()
	material, err := in.Token.GenerateKey(ctx, keyID, 1, wrapped.AES256, "encrypt")
	if err != nil {
		return nil, secret.Bytes{}, fmt.Errorf("genesis: default key: %w", err)
	}
	fingerprint, err := kms.GenerateFingerprintKey(ctx, in.Token)
	if err != nil {
		return nil, secret.Bytes{}, fmt.Errorf("genesis: fingerprint key: %w", err)
	}
	text, hash, err := iam.NewToken(rand.Reader)
	if err != nil {
		return nil, secret.Bytes{}, fmt.Errorf("genesis: administrator's token: %w", err)
	}
	const by = "init"
	command, err = fsm.Encode(fsm.GenesisCommand{
		Meta:    fsm.Meta{Time: now, Principal: by, RequestID: uuid.NewString()},
		Genesis: fsm.Genesis{ClusterID: in.ClusterID, CreatedAt: now, Root: in.Root, FingerprintKey: &fingerprint},
		DefaultKey: fsm.Key{
			ID: keyID, Spec: wrapped.AES256, Usage: "encrypt", Origin: "hsm", State: fsm.KeyActive,
			Description: "default key of secrets that name no other", Current: 1,
			Versions: []fsm.KeyVersion{{Wrapped: material, CreatedAt: now}},
			Aliases:  []string{names.DefaultAlias}, CreatedAt: now, CreatedBy: by, UpdatedAt: now,
		},
		Admin: fsm.Principal{
			Name: in.AdminName, Kind: "user", Description: "first administrator", Policies: []string{FullAccess},
			CreatedAt: now, CreatedBy: by,
		},
		AdminToken: fsm.Token{
			ID: uuid.NewString(), Hash: hash[:], Principal: in.AdminName, Description: "first administrator's token, made by init",
			CreatedAt: now, CreatedBy: by, ExpiresAt: in.Now.Add(in.AdminTTL).UnixMilli(),
		},
		Policies: []fsm.Policy{{
			Name: FullAccess, Revision: 1, UpdatedAt: now, UpdatedBy: by,
			Statements: []fsm.Statement{{Effect: "allow", Roles: []string{FullAccess}}},
		}},
	})
	if err != nil {
		text.Wipe()
		return nil, secret.Bytes{}, fmt.Errorf("genesis: %w", err)
	}
	return command, text, nil
}
