package engine

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

// defaultKeyTTL is the life of an access key that nobody says anything about.
const defaultKeyTTL = 90 * 24 * time.Hour

// keyGeneration is how secrets are derived that are made now. Another way
// would be another generation, and leave those alone that are in use.
const keyGeneration = 1

func accessKeyOperations() []*Operation {
	return []*Operation{
		operation(row[wire.CreateAccessKeyRequest, wire.CreateAccessKeyResponse]{
			service: "iam", name: "createAccessKey", event: "iam.create_access_key", write: true,
			summary: "Make an access key for signed requests; its secret is shown once. To change one without a gap, make a second one beside it, and delete the first when nobody uses it any more.",
			scope: func(_ *call, r *wire.CreateAccessKeyRequest) (scope, error) {
				return nameScope("principal", r.Principal)
			},
			run: createAccessKey,
		}),
		operation(row[wire.ListAccessKeysRequest, wire.ListAccessKeysResponse]{
			service: "iam", name: "listAccessKeys", event: "iam.list_access_keys",
			summary: "List access keys, never their secrets.",
			scope: func(_ *call, r *wire.ListAccessKeysRequest) (scope, error) {
				if r.Principal == "" {
					return scope{}, nil
				}
				return nameScope("principal", r.Principal)
			},
			run: listAccessKeys,
		}),
		operation(row[wire.DeleteAccessKeyRequest, wire.DeleteAccessKeyResponse]{
			service: "iam", name: "deleteAccessKey", event: "iam.delete_access_key", write: true,
			summary: "Delete an access key: what it signs is refused on every node once this is answered.",
			scope: func(_ *call, r *wire.DeleteAccessKeyRequest) (scope, error) {
				return scope{subject: r.AccessKeyID}, iam.CheckAccessKeyID("accessKeyId", r.AccessKeyID)
			},
			run: deleteAccessKey,
		}),
		operation(row[wire.RevokeTokensRequest, wire.RevokeTokensResponse]{
			service: "iam", name: "revokeTokens", event: "iam.revoke_tokens", write: true,
			action: "iam:revokeToken", more: []iam.Action{"iam:deleteAccessKey"},
			summary: "Revoke all tokens of a principal at once, and delete its access keys if asked to.",
			scope:   func(_ *call, r *wire.RevokeTokensRequest) (scope, error) { return nameScope("principal", r.Principal) },
			run:     revokeTokens,
		}),
		operation(row[wire.LogoutRequest, wire.RevokeTokenResponse]{
			service: "iam", name: "logout", event: "iam.logout", write: true, self: true,
			summary: "Revoke the token that this request is made with.",
			scope:   func(*call, *wire.LogoutRequest) (scope, error) { return scope{}, nil },
			run:     logout,
		}),
	}
}

func createAccessKey(ctx context.Context, c *call, r *wire.CreateAccessKeyRequest) (*wire.CreateAccessKeyResponse, error) {
	ttl := defaultKeyTTL
	if r.TTL != nil {
		ttl = time.Duration(*r.TTL)
	}
	if ttl < minTTL || ttl > maxTTL {
		return nil, fault.Invalid("ttl", "must be 1s to 366d")
	}
	if len(r.BoundCIDRs) > maxCIDRs {
		return nil, fault.Invalid("boundCidrs", "has %d entries; at most %d are allowed", len(r.BoundCIDRs), maxCIDRs)
	}
	if _, err := parseCIDRs("boundCidrs", r.BoundCIDRs); err != nil {
		return nil, err
	}
	if err := checkText("description", r.Description); err != nil {
		return nil, err
	}
	if err := c.withinBoundaries("iam:createAccessKey", r.Principal); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	if done, err := c.replayed(meta); err != nil {
		return nil, err
	} else if done != nil {
		return nil, errSecretShownOnce(done.TokenID)
	}
	id, err := iam.NewAccessKeyID(rand.Reader)
	if err != nil {
		return nil, err
	}
	key := fsm.AccessKey{
		ID: id, Principal: r.Principal, Generation: keyGeneration, Description: r.Description, BoundCIDRs: r.BoundCIDRs,
		ExpiresAt: c.now.Add(ttl).UnixMilli(),
	}
	// Derived before the commit: there is no access key of which nobody could
	// be told the secret.
	derived, err := c.engine.KMS.AccessKeySecret(ctx, c.state.FingerprintKey(), key.ID, key.Generation)
	if err != nil {
		return nil, err
	}
	text := c.reveal(iam.AccessKeySecret(derived))
	result, err := c.commit(ctx, fsm.CreateAccessKey{Meta: meta, Key: key})
	if err != nil {
		return nil, err
	}
	if result.Replayed {
		return nil, errSecretShownOnce(result.TokenID)
	}
	return &wire.CreateAccessKeyResponse{AccessKeyID: key.ID, SecretAccessKey: wire.NewText(text), ExpiresAt: wire.Millis(key.ExpiresAt)}, nil
}

// errSecretShownOnce answers a retry of createAccessKey.
func errSecretShownOnce(id string) error {
	return fault.New(fault.Conflict, "clientToken: this access key was made already and its secret is shown only once; if it was lost, delete %s and make another", id).
		With("accessKeyId", id)
}

func listAccessKeys(_ context.Context, c *call, r *wire.ListAccessKeysRequest) (*wire.ListAccessKeysResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	out := &wire.ListAccessKeysResponse{AccessKeys: []wire.AccessKeySummary{}}
	for k := range c.state.AccessKeys(r.Principal, p.after) {
		if len(out.AccessKeys) == p.limit {
			out.NextCursor = cursor(out.AccessKeys[p.limit-1].AccessKeyID)
			break
		}
		used := c.engine.credentials.of(c.state, k.ID)
		state := "active"
		if c.now.UnixMilli() >= k.ExpiresAt {
			state = "expired"
		}
		out.AccessKeys = append(out.AccessKeys, wire.AccessKeySummary{
			AccessKeyID: k.ID, Principal: k.Principal, Description: k.Description, BoundCIDRs: k.BoundCIDRs,
			CreatedAt: wire.Millis(k.CreatedAt), CreatedBy: k.CreatedBy, ExpiresAt: wire.Millis(k.ExpiresAt), State: state,
			LastUsedAt: wire.Millis(used.At), LastUsedFrom: used.Source,
		})
	}
	return out, c.checkConsistency(r.Consistency)
}

func deleteAccessKey(ctx context.Context, c *call, r *wire.DeleteAccessKeyRequest) (*wire.DeleteAccessKeyResponse, error) {
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	if _, err := c.commit(ctx, fsm.DeleteAccessKey{Meta: meta, ID: r.AccessKeyID}); err != nil {
		return nil, err
	}
	return &wire.DeleteAccessKeyResponse{AccessKeyID: r.AccessKeyID, State: "deleted"}, nil
}

func revokeTokens(ctx context.Context, c *call, r *wire.RevokeTokensRequest) (*wire.RevokeTokensResponse, error) {
	if r.AccessKeys {
		if err := c.require("iam:deleteAccessKey", iam.Resource{Any: true}); err != nil {
			return nil, err
		}
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, fsm.RevokeTokens{Meta: meta, Principal: r.Principal, AccessKeys: r.AccessKeys})
	if err != nil {
		return nil, err
	}
	return &wire.RevokeTokensResponse{Principal: r.Principal, RevokedTokens: result.Done, DeletedAccessKeys: result.AccessKeys}, nil
}

// logout needs no right: whoever has a token may give it up.
func logout(ctx context.Context, c *call, r *wire.LogoutRequest) (*wire.RevokeTokenResponse, error) {
	if c.state.Token(c.who.credential) == nil {
		return nil, fault.New(fault.Conflict, "Authorization: only a token can log out; deleteAccessKey ends an access key")
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	if _, err := c.commit(ctx, fsm.RevokeToken{Meta: meta, TokenID: c.who.credential}); err != nil {
		return nil, err
	}
	return &wire.RevokeTokenResponse{TokenID: c.who.credential, State: "revoked"}, nil
}
