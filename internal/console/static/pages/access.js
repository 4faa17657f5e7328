// Who may do what: principals, policies, rules about places and times, and why
// something was denied.
import { h } from '../lib/dom.js';
import { call, pages } from '../lib/api.js';
import { quote } from '../lib/format.js';
import { badge, cli, facts, heading, load, panel, part, table, when } from '../lib/ui.js';

export async function access([kind, name]) {
  if (kind === 'policy' && name) return policy(name);
  if (kind === 'principal' && name) return principal(name);
  const id = h('input', { id: 'decision', type: 'text', required: true, autocomplete: 'off', spellcheck: 'false' });
  const place = h('div');
  return [
    heading('Access', 'Who may do what, from where and when.'),
    panel('Why was this denied?', h('form.filters', {
      role: 'search', onsubmit: (e) => {
        e.preventDefault();
        load(place, async () => {
          const out = await call('iam/explain', { decisionId: id.value.trim() });
          return [explained(out), cli(`strongroom explain ${quote(id.value.trim())}`)];
        });
      },
    }, h('div.field', null, h('label', { for: 'decision' }, 'Id of the decision'), id), h('button', { type: 'submit' }, 'Explain')), place),
    part('Principals', async () => {
      const all = await pages('iam/listPrincipals', {}, 'principals');
      return [table('Principals', [
        ['Name', (p) => h('a', { href: '#/access/principal/' + encodeURIComponent(p.name) }, p.name)], ['Kind', (p) => p.kind], ['Policies', (p) => (p.policies || []).join(', ')],
        ['Groups', (p) => (p.groups || []).map((g) => g.group).join(', ')], ['Made', (p) => when(p.createdAt)],
      ], all.entries), all.more && h('p.hint', null, 'These are the first thousand.'), cli('strongroom principal ls')];
    }),
    part('Policies', async () => {
      const all = await pages('iam/listPolicies', {}, 'policies');
      return [table('Policies', [
        ['Name', (p) => h('a', { href: '#/access/policy/' + encodeURIComponent(p.name) }, p.name)], ['Revision', (p) => p.revision, 'num'],
        ['Statements', (p) => (p.statements || []).length, 'num'], ['Denies', (p) => (p.statements || []).some((s) => s.effect === 'deny') ? 'yes' : ''],
      ], all.entries), cli('strongroom policy ls')];
    }),
    part('From where and when', async () => {
      const all = await pages('iam/listAccessPolicies', {}, 'accessPolicies');
      return [table('Access policies', [['Name', (p) => p.name], ['Paths', (p) => h('code', null, (p.paths || []).join(', '))], ['Networks', (p) => (p.sourceCidrs || []).join(', ')], ['Times', (p) => (p.timeWindows || []).length || ''], ['Changed', (p) => when(p.updatedAt)]], all.entries, 'There are no access policies: what policies allow is allowed from everywhere, at all times.'), cli('strongroom access-policy ls')];
    }),
  ];
}

function explained(out) {
  return h('div', null,
    facts([['Decision', badge(out.decision)], ['Why', out.reason], ['When', when(out.at)], ['Allowed again', out.opensAt && when(out.opensAt)]]),
    h('p.value', null, out.text),
    table('Statements that had a say', [
      ['Policy', (s) => h('a', { href: '#/access/policy/' + encodeURIComponent(s.policy) }, s.policy)], ['Statement', (s) => s.statement, 'num'], ['Effect', (s) => badge(s.effect)],
      ['Matched', (s) => h('span.mono', null, s.matched || s.action || '')], ['By way of', (s) => s.via || ''], ['Not met', (s) => s.unmet || ''],
    ], out.chain || [], 'No statement is about this.'));
}

async function policy(name) {
  const p = await call('iam/getPolicy', { name });
  return [
    heading(name, null, h('p', null, h('a', { href: '#/access' }, 'Access'), ' / policy')),
    panel('Statements', (p.statements || []).map((s) => h('div.panel', null, facts([
      ['Effect', badge(s.effect)], ['Actions', (s.actions || []).join(', ')], ['Roles', (s.roles || []).join(', ')], ['Paths', h('code', null, (s.paths || []).join(', '))], ['Keys', (s.keys || []).join(', ')],
      ['Conditions', s.conditions && h('code', null, JSON.stringify(s.conditions))],
    ]))), cli(`strongroom policy get ${quote(name)}`)),
    part('History', async () => {
      const page = await call('iam/listPolicyRevisions', { name });
      return table('Revisions', [['Revision', (r) => r.revision, 'num'], ['Changed', (r) => when(r.updatedAt)], ['By', (r) => r.updatedBy], ['Statements', (r) => (r.statements || []).length, 'num']], page.revisions || []);
    }),
  ];
}

async function principal(name) {
  const what = await call('iam/describePrincipal', { name });
  return [
    heading(name, null, h('p', null, h('a', { href: '#/access' }, 'Access'), ' / ', what.kind || 'principal')),
    panel('About', facts([['Kind', what.kind], ['Description', what.description], ['Policies', (what.policies || []).join(', ')], ['Groups', (what.groups || []).map((g) => g.group).join(', ')], ['Made', when(what.createdAt)], ['By', what.createdBy], ['In quarantine', what.quarantined && [badge('denied'), ' since ', when(what.quarantined.at), ' ', what.quarantined.reason]]]), cli(`strongroom principal describe ${quote(name)}`)),
    part('Credentials', async () => {
      const page = await call('iam/listTokens', { principal: name });
      return table('Tokens', [['Id', (t) => h('code', null, t.tokenId)], ['Made', (t) => when(t.createdAt)], ['Expires', (t) => when(t.expiresAt)], ['State', (t) => badge(t.state)], ['Last used', (t) => when(t.lastUsedAt)], ['From', (t) => t.lastUsedFrom || '']], page.tokens || [], 'It has no tokens.');
    }),
  ];
}

