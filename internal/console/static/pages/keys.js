// The hygiene board of keys, and one key with what can be done about it.
import { h, replace, say } from '../lib/dom.js';
import { call, clientToken, pages } from '../lib/api.js';
import { count, quote } from '../lib/format.js';
import { ask, badge, cli, facts, heading, panel, part, table, when } from '../lib/ui.js';

const name = (k) => (k.aliases && k.aliases[0]) || k.keyId;
const bad = (k) => (k.nodes || []).some((n) => !n.usable) && k.state !== 'destroyed';
const waits = (k) => !['active', 'destroyed'].includes(k.state);

export async function keys([which], again) {
  if (which && which !== 'attention') return one(which, again);
  const [health, first] = await Promise.all([pages('kms/getKeyHealth', {}, 'keys'), call('kms/getKeyHealth', { limit: 1 })]);
  const all = health.entries;
  const attention = which === 'attention';
  const box = h('select', { id: 'show', onchange: () => { location.hash = box.value === 'all' ? '#/keys' : '#/keys/attention'; } },
    h('option', { value: 'all' }, 'All keys'), h('option', { value: 'attention', selected: attention }, 'Those that need attention'));
  const search = h('input', { id: 'find', type: 'search', autocomplete: 'off', oninput: () => draw() });
  const place = h('div');
  const draw = () => {
    const text = search.value.toLowerCase();
    const rows = all.filter((k) => (!attention || bad(k) || waits(k)) && (!text || [k.keyId, ...(k.aliases || [])].some((s) => s.toLowerCase().includes(text))));
    rows.sort((a, b) => Number(bad(b)) - Number(bad(a)) || Number(waits(b)) - Number(waits(a)) || name(a).localeCompare(name(b)));
    replace(place, table('Keys', [
      ['Key', (k) => h('a.mono', { href: '#/keys/' + encodeURIComponent(k.keyId) }, name(k))],
      ['State', (k) => badge(k.state)],
      ['HSMs', (k) => usable(k)],
      ['Bound secrets', (k) => k.boundSecrets, 'num'],
      ['Age in days', (k) => k.versionAgeDays, 'num'],
      ['Next rotation', (k) => when(k.nextRotationAt)],
      ['Deletion', (k) => when(k.deletionAt)],
      ['Last used', (k) => when(k.lastUsedAt)],
    ], rows, attention ? 'No key needs attention.' : 'There are no keys that you may see.'));
    say(count(rows.length, 'key', 'keys'));
  };
  draw();
  const inactive = first.secretsOnInactiveKeys || [];
  return [
    heading('Key health', 'Whether each key can be used now, on each node, and what will keep it from that.'),
    panel('Keys', h('div.filters', null,
      h('div.field', null, h('label', { for: 'find' }, 'Find'), search),
      h('div.field', null, h('label', { for: 'show' }, 'Show'), box)), place,
    health.more && h('p.hint', null, 'There are more keys than the first thousand; the command line shows all.'), cli('strongroom key health')),
    panel('Secrets on keys that are not active', inactive.length
      ? [h('p', null, count(first.secretsOnInactiveTotal, 'secret', 'secrets'), first.secretsOnInactiveTotal > inactive.length && ', of which these are the first'),
        table('Secrets on keys that are not active', [
          ['Secret', (s) => h('a.mono', { href: '#/secrets' + s.path }, s.path)],
          ['Key', (s) => h('a.mono', { href: '#/keys/' + encodeURIComponent(s.keyId) }, s.keyId)],
          ['State of the key', (s) => badge(s.state)],
        ], inactive)]
      : h('p.dim', null, 'There are none.')),
  ];
}

function usable(k) {
  const nodes = k.nodes || [];
  const broken = nodes.filter((n) => !n.usable);
  if (!nodes.length) return h('span.dim', null, '–');
  if (!broken.length) return badge('ok');
  return [badge('down'), ' ', broken.map((n) => n.nodeId).join(', ')];
}

async function one(id, again) {
  const key = await call('kms/describeKey', { keyId: id });
  const ref = quote(name(key));
  const act = (operation, request) => call(operation, { keyId: key.keyId, clientToken: clientToken(), ...request }).then(again);
  const button = (text, options, kind = '') => h('button' + kind, { type: 'button', onclick: () => ask(options) }, text);
  const actions = [];
  if (key.state === 'active') {
    actions.push(button('Rotate', { title: `Rotate ${name(key)}`, text: 'New versions go under new material from the HSM. What was sealed before can still be opened.', confirm: 'Rotate the key', command: () => `strongroom key rotate ${ref}`, act: () => act('kms/rotateKey') }));
    actions.push(button('Retire', {
      title: `Retire ${name(key)}`, text: 'New bindings end, what is bound moves to another key, and this one is disabled once it is proven empty. You can follow the job.',
      fields: [{ name: 'to', label: 'Key that takes over', hint: 'Its id, or alias/NAME', required: true }], confirm: 'Retire the key',
      command: (v) => `strongroom key retire ${ref} ${quote(v.to || 'TO-KEY')}`,
      act: (v) => call('kms/retireKey', { keyId: key.keyId, toKeyId: v.to, clientToken: clientToken() }).then(again),
    }));
    actions.push(button('Disable', { title: `Disable ${name(key)}`, text: 'Refused while live versions of secrets are bound to it.', confirm: 'Disable the key', danger: true, command: () => `strongroom key disable ${ref}`, act: () => act('kms/disableKey') }, '.danger'));
  }
  if (key.state === 'disabled') {
    actions.push(button('Enable', { title: `Enable ${name(key)}`, confirm: 'Enable the key', command: () => `strongroom key enable ${ref}`, act: () => act('kms/enableKey') }));
    actions.push(button('Delete', { title: `Delete ${name(key)}`, text: 'It is destroyed after a waiting period, in which you can take this back. What is still sealed under it can never be opened after that.', confirm: 'Schedule the deletion', danger: true, command: () => `strongroom key delete ${ref}`, act: () => act('kms/scheduleKeyDeletion') }, '.danger'));
  }
  if (key.state === 'pendingDeletion') {
    actions.push(button('Take the deletion back', { title: `Keep ${name(key)}`, text: 'The key is disabled then.', confirm: 'Keep the key', command: () => `strongroom key undelete ${ref}`, act: () => act('kms/cancelKeyDeletion') }, '.main'));
  }
  return [
    heading(name(key), null, h('p', null, h('a', { href: '#/keys' }, 'Key health'), ' / ', badge(key.state))),
    panel('Key', facts([
      ['Id', h('code', null, key.keyId)], ['Aliases', (key.aliases || []).join(', ')], ['Kind', `${key.spec}, ${key.usage}`], ['Origin', key.origin],
      ['Version', key.currentVersion], ['Bound secrets', key.boundSecrets], ['Description', key.description], ['Made', when(key.createdAt)], ['By', key.createdBy],
      ['Rotated every', key.rotation && key.rotation.period], ['Next rotation', key.rotation && key.rotation.nextRotationAt && when(key.rotation.nextRotationAt)],
      ['Last used', key.lastUsedAt && when(key.lastUsedAt)], ['Destroyed', key.deletionAt && when(key.deletionAt)], ['Deleted by', key.deletedBy], ['Why', key.deleteReason],
    ]), actions.length ? h('div.actions', null, actions) : null, cli(`strongroom key describe ${ref}`)),
    part('On each node', async () => {
      const { keys: [row] } = await call('kms/getKeyHealth', { keyId: key.keyId });
      return table('Nodes', [['Node', (n) => n.nodeId], ['HSM', (n) => badge(n.usable ? 'ok' : 'down')], ['Why', (n) => n.reason || '']], (row && row.nodes) || []);
    }),
    part('Bound secrets', async () => {
      const page = await call('kms/listBoundSecrets', { keyId: key.keyId, limit: 200 });
      return [table('Bound secrets', [['Secret', (s) => h('a.mono', { href: '#/secrets' + s.path }, s.path)], ['Versions', (s) => s.versions === undefined ? '' : Array.isArray(s.versions) ? s.versions.join(', ') : s.versions]], page.secrets || [], 'Nothing is bound to this key.'),
        page.nextCursor && h('p.hint', null, 'There are more; the command line shows all.'), cli(`strongroom key bound ${ref}`)];
    }),
  ];
}
