package fsm

import (
	"slices"

	"github.com/strongroom/strongroom/internal/names"
)

// applyGenesis makes the cluster: once, and before anything else. It is
// checked like the commands that would make the same things later.
func applyGenesis(t *txn, c GenesisCommand) (Result, *Refusal) {
	if t.genesis != nil {
		return Result{}, conflict("the cluster has been initialised already, at %d ms; start a new one in an empty data folder", t.genesis.CreatedAt)
	}
	if r := checkName("clusterId", c.Genesis.ClusterID); r != nil {
		return Result{}, r
	}
	if r := t.genesisKey(c.DefaultKey); r != nil {
		return Result{}, r
	}
	if r := t.genesisPolicies(c.Policies); r != nil {
		return Result{}, r
	}
	if r := t.genesisAdmin(c.Admin, c.AdminToken); r != nil {
		return Result{}, r
	}
	genesis := c.Genesis
	genesis.CreatedAt = t.now
	t.genesis, t.roots = &genesis, &Roots{Current: genesis.Root}
	return Result{KeyID: c.DefaultKey.ID, Name: c.Admin.Name, TokenID: c.AdminToken.ID}, nil
}

func (t *txn) genesisKey(k Key) *Refusal {
	if !slices.Contains(k.Aliases, names.DefaultAlias) {
		k.Aliases = append(slices.Clone(k.Aliases), names.DefaultAlias)
	}
	if r := t.checkKey(k); r != nil {
		return r
	}
	if k.State != KeyActive || k.Usage != usageEncrypt {
		return invalid("defaultKey", "must be active and for %s", usageEncrypt)
	}
	t.addKey(k)
	return nil
}

func (t *txn) genesisPolicies(policies []Policy) *Refusal {
	for _, p := range policies {
		if r := checkName("policies", p.Name); r != nil {
			return r
		}
		if t.policies.value([]byte(p.Name)) != nil {
			return alreadyExists("policies: %s is there twice", p.Name)
		}
		if r := checkStatements(p.Statements); r != nil {
			return r
		}
		t.addPolicy(Policy{Name: p.Name, Statements: p.Statements})
	}
	if t.policies.value([]byte(FullAccess)) == nil {
		return invalid("policies", "must hold %s", FullAccess)
	}
	return nil
}

func (t *txn) genesisAdmin(admin Principal, token Token) *Refusal {
	if r := checkPrincipal(admin); r != nil {
		return r
	}
	for _, policy := range admin.Policies {
		if t.policies.value([]byte(policy)) == nil {
			return noPolicy("admin", policy)
		}
	}
	admin.Policies = append(slices.Clone(admin.Policies), FullAccess)
	t.addPrincipal(admin)
	if token.Principal != admin.Name {
		return invalid("adminToken", "must be of the administrator")
	}
	if r := t.checkToken(token); r != nil {
		return r
	}
	t.addToken(token)
	return nil
}
