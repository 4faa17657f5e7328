// What needs attention, worst first. Each line leads to where it is mended, and
// each source that the caller may not see is left out and said to be.
import { h } from '../lib/dom.js';
import { call, pages } from '../lib/api.js';
import { count } from '../lib/format.js';
import { cli, heading, panel } from '../lib/ui.js';

const day = 86400 * 1000;

export async function overview() {
  const hidden = [];
  const get = async (title, f) => {
    try { return await f(); } catch (err) {
      if (err.code === 'AccessDenied') { hidden.push(title); return null; }
      return { failure: err, title };
    }
  };
  const [status, health, members, rotations, glass, compromised] = await Promise.all([
    get('the cluster', () => call('cluster/status')),
    get('key health', () => pages('kms/getKeyHealth', {}, 'keys').then(async (keys) => ({ keys, inactive: await call('kms/getKeyHealth', { limit: 1 }) }))),
    get('members', () => call('cluster/members')),
    get('failed rotations', () => call('audit/queryEvents', { event: 'secrets.rotation_failed', from: new Date(Date.now() - 7 * day).toISOString(), limit: 20 })),
    get('break-glass sessions', () => call('iam/listBreakGlass', {})),
    get('compromised versions', () => call('secrets/listCompromised', {})),
  ]);
  const found = [];
  const note = (tone, text, to, way) => found.push({ tone, text, to, way });
  for (const part of [status, health, members, rotations, glass, compromised]) {
    if (part && part.failure) note('bad', `${part.title} cannot be shown: ${part.failure.message}`);
  }
  if (status && status.nodes) clusterLines(status, members, note);
  if (health && health.keys) keyLines(health, note);
  if (rotations && rotations.events && rotations.events.length) {
    note('warn', `${count(rotations.events.length, 'rotation', 'rotations')} of secrets failed in the last seven days: ${some(rotations.events.map((e) => e.path))}`, '#/audit/secrets.rotation_failed', 'See the reasons');
  }
  const known = compromised && (compromised.versions || []).filter((v) => !v.mended);
  if (known && known.length) note('bad', `${count(known.length, 'version is', 'versions are')} compromised and can still be read: ${some(known.map((v) => v.path))}`, '#/secrets' + known[0].path, 'Go to the first');
  const open = glass && (glass.sessions || []).filter((s) => s.state === 'open');
  if (open && open.length) note('bad', `Break-glass is open: ${some(open.map((s) => s.principal))}`, '#/audit/iam.open_break_glass', 'See why');
  found.sort((a, b) => (a.tone === b.tone ? 0 : a.tone === 'bad' ? -1 : 1));

  const alive = status && status.nodes ? status.nodes.filter((n) => n.alive).length : null;
  const hsms = status && status.nodes ? status.nodes.filter((n) => n.hsm === 'ok').length : null;
  return [
    heading('Overview', 'What needs attention, worst first.'),
    panel('Attention',
      found.length
        ? h('ul.attention', null, found.map((f) => h('li.' + f.tone, null, f.text, f.to && [' ', h('a', { href: f.to }, f.way)])))
        : h('ul.attention', null, h('li.ok', null, 'Nothing needs attention, as far as you may see.')),
      hidden.length ? h('p.hint', null, `You have no right to see: ${hidden.join(', ')}.`) : null),
    h('div.tiles', null,
      alive !== null && tile(`${alive} of ${status.nodes.length}`, 'nodes answer', '#/cluster'),
      status && status.leader && tile(status.leader.nodeId, 'leads', '#/cluster'),
      hsms !== null && tile(`${hsms} of ${status.nodes.length}`, 'HSMs work', '#/keys'),
      health && health.keys && tile(health.keys.entries.length + (health.keys.more ? '+' : ''), 'keys', '#/keys'),
      health && health.inactive && tile(health.inactive.secretsOnInactiveTotal || 0, 'secrets on keys that are not active', '#/keys')),
    cli('strongroom cluster status'),
  ];
}

function tile(figure, text, to) { return h('a.tile', { href: to }, h('b', null, figure), h('span', null, text)); }

function some(all) {
  const names = [...new Set(all.filter(Boolean))];
  return names.slice(0, 4).join(', ') + (names.length > 4 ? ` and ${names.length - 4} more` : '');
}

function clusterLines(status, members, note) {
  const nodes = status.nodes;
  if (!status.leader) note('bad', 'The cluster has no leader: nothing is written.', '#/cluster', 'See members');
  for (const n of nodes) {
    if (!n.alive) note('bad', `Node ${n.nodeId} does not answer`, '#/cluster', 'See members');
    else if (n.hsm !== 'ok') note('bad', `The HSM of node ${n.nodeId} does not work (${n.hsm})`, '#/keys', 'See key health');
    if (n.audit === 'down') note('bad', `The audit trail of node ${n.nodeId} takes no events`, '#/cluster', 'See members');
    if (n.refusesTimed) note('warn', `The clock of node ${n.nodeId} is off: it refuses what is restricted to times`, '#/cluster', 'See members');
  }
  for (const text of status.auditTrouble || []) note('bad', `Audit trail: ${text}`, '#/audit', 'Go to audit');
  for (const text of status.heldBack || []) note('warn', `An upgrade is not finished: ${text}`, '#/cluster', 'See members');
  for (const m of (members && members.members) || []) {
    if (m.waiting) note('warn', `Member ${m.nodeId} is not in step: ${m.waiting}`, '#/cluster', 'See members');
  }
}

function keyLines(health, note) {
  const name = (k) => (k.aliases && k.aliases[0]) || k.keyId;
  const total = health.inactive.secretsOnInactiveTotal || 0;
  if (total) note('warn', `${count(total, 'secret is', 'secrets are')} bound to a key that is not active`, '#/keys/attention', 'See which');
  const dead = health.keys.entries.filter((k) => (k.nodes || []).some((n) => !n.usable) && k.state !== 'destroyed');
  for (const k of dead.slice(0, 5)) {
    const nodes = k.nodes.filter((n) => !n.usable);
    note('bad', `${name(k)} cannot be used on ${nodes.map((n) => n.nodeId).join(', ')}: ${nodes[0].reason || 'no reason given'}`, '#/keys/' + encodeURIComponent(k.keyId), 'See the key');
  }
  if (dead.length > 5) note('bad', `${dead.length - 5} more keys cannot be used on some node`, '#/keys/attention', 'See which');
  for (const k of health.keys.entries) {
    if (k.deletionAt && new Date(k.deletionAt) - Date.now() < 7 * day && k.state === 'pendingDeletion') note('warn', `${name(k)} is destroyed within a week`, '#/keys/' + encodeURIComponent(k.keyId), 'See the key');
    if (k.nextRotationAt && new Date(k.nextRotationAt) < Date.now() - 3600e3 && k.state === 'active') note('warn', `${name(k)} should have been rotated`, '#/keys/' + encodeURIComponent(k.keyId), 'See the key');
  }
}

