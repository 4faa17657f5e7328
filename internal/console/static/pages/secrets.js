// Secrets: folders, search, and one secret with history, consumers and what can
// be done. Browsing opens nothing; a value is shown on request, one at a time,
// and hidden again.
import { h, replace, say } from '../lib/dom.js';
import { call, clientToken } from '../lib/api.js';
import { bytes, count, decode, encode, quote } from '../lib/format.js';
import { ask, badge, cli, copy, facts, heading, panel, part, table, trouble, when } from '../lib/ui.js';

const hideAfter = 30; // seconds

export async function secrets(rest, again) {
  const path = '/' + rest.join('/');
  if (path.endsWith('/')) return browse(path);
  return one(path, again);
}

function crumbs(path) {
  const parts = path.split('/').slice(1, -1);
  return h('nav.crumbs', { 'aria-label': 'Folders' }, h('a', { href: '#/secrets/' }, '/'),
    parts.map((p, i) => [h('a', { href: '#/secrets/' + parts.slice(0, i + 1).join('/') + '/' }, p), '/']));
}

function browse(prefix) {
  const text = h('input', { id: 'text', type: 'search', autocomplete: 'off' });
  const place = h('div');
  let mine = 0;
  const draw = async () => {
    const turn = ++mine;
    const found = { folders: [], secrets: [] };
    const more = h('div');
    const list = h('div');
    replace(place, list, more);
    const next = async (cursor) => {
      const page = await call('secrets/listSecrets', { prefix, limit: 200, ...(text.value ? { text: text.value, recursive: true } : {}), ...(cursor ? { cursor } : {}) });
      if (turn !== mine) return;
      found.folders.push(...(page.folders || []));
      found.secrets.push(...(page.secrets || []));
      replace(list, table('Folders and secrets', [
        ['Name', (s) => h('a.mono', { href: '#/secrets' + (s.folder || s.path) }, s.folder ? s.folder.slice(prefix.length) : text.value ? s.path : s.path.slice(prefix.length))],
        ['Current version', (s) => s.folder ? '' : s.currentVersion || 'none', 'num'],
        ['State', (s) => s.folder ? h('span.dim', null, 'folder') : badge(s.state)],
        ['Changed', (s) => s.folder ? '' : when(s.updatedAt)],
      ], [...found.folders.map((folder) => ({ folder })), ...found.secrets], text.value ? 'Nothing found.' : 'There is nothing here that you may see.'));
      replace(more, page.nextCursor && h('div.actions', null, h('button', { type: 'button', onclick: () => next(page.nextCursor) }, found.secrets.length ? 'Show more' : 'Look further')));
      say(count(found.folders.length + found.secrets.length, 'entry', 'entries'));
    };
    await next();
  };
  const load = () => draw().catch((err) => replace(place, trouble(err)));
  load();
  return [
    heading('Secrets', 'Browsing shows metadata only. Nothing is opened.'),
    panel('Browse', crumbs(prefix),
      h('form.filters', { role: 'search', onsubmit: (e) => { e.preventDefault(); load(); } },
        h('div.field', null, h('label', { for: 'text' }, 'Find below here'), text),
        h('button', { type: 'submit' }, 'Find'),
        h('button.main', { type: 'button', onclick: () => create(prefix) }, 'New secret')),
      place, cli(`strongroom secret ls ${quote(prefix)}`)),
  ];
}

function create(prefix) {
  return ask({
    title: 'New secret', text: 'Strongroom makes the value: nobody has to know it. You can put a value of your own later.',
    fields: [
      { name: 'path', label: 'Path', value: prefix, hint: 'Such as /app/prod/payments/db-password. It can never be changed.', required: true },
      { name: 'kind', label: 'Kind of value', options: ['password', 'passphrase', 'bytes', 'uuid', 'none yet'] },
      { name: 'description', label: 'Description' },
    ],
    confirm: 'Make the secret',
    command: (v) => (v.kind === 'none yet' ? `strongroom secret create ${quote(v.path)}` : `strongroom secret generate ${quote(v.path)} --kind ${v.kind} --create`),
    act: async (v) => {
      await call('secrets/createSecret', {
        path: v.path, clientToken: clientToken(), ...(v.description ? { description: v.description } : {}), ...(v.kind === 'none yet' ? {} : { generate: { kind: v.kind } }),
      });
      location.hash = '#/secrets' + v.path;
    },
  });
}

async function one(path, again) {
  const s = await call('secrets/describeSecret', { path });
  const folder = path.slice(0, path.lastIndexOf('/') + 1);
  const p = quote(path);
  const shown = h('div');
  const button = (text, options, kind = '') => h('button' + kind, { type: 'button', onclick: () => ask(options) }, text);
  return [
    heading(path.slice(folder.length), null, crumbs(path), h('p', null, badge(s.state))),
    panel('Value',
      h('p.dim', null, 'Each look is an event in the audit trail. The value is hidden again after half a minute.'),
      h('div.actions', null,
        h('button', { type: 'button', onclick: (e) => reveal(path, shown, e.target) }, 'Reveal'),
        button('Generate a new one', {
          title: 'Generate a new value', text: 'Strongroom makes it, and it becomes the current version. Applications get it with their next read.',
          fields: [{ name: 'kind', label: 'Kind', options: ['password', 'passphrase', 'bytes', 'uuid'] }, { name: 'reason', label: 'Reason', hint: 'Kept in the history' }],
          confirm: 'Generate', command: (v) => `strongroom secret generate ${p} --kind ${v.kind}`,
          act: (v) => call('secrets/generateSecret', { path, kind: v.kind, clientToken: clientToken(), ...(v.reason ? { reason: v.reason } : {}) }).then(again),
        }, '.main'),
        button('Put one of your own', {
          title: 'Put a value', text: 'Better have Strongroom generate it, unless it comes from elsewhere: then nobody has seen it.',
          fields: [{ name: 'value', label: 'Value', kind: 'area', required: true }, { name: 'reason', label: 'Reason', hint: 'Kept in the history' }],
          confirm: 'Make it the current version', command: () => `strongroom secret put ${p}`,
          act: (v) => call('secrets/putSecretValue', { path, value: encode(v.value), clientToken: clientToken(), ...(v.reason ? { reason: v.reason } : {}) }).then(again),
        })),
      shown, cli(`strongroom secret get ${p}`)),
    panel('About', facts([
      ['Path', h('code', null, path)], ['Description', s.description], ['Current version', s.currentVersion || 'none'], ['Latest version', s.latestVersion || 'none'],
      ['Labels', Object.entries(s.labels || {}).map(([l, v]) => `${l} → ${v}`).join(', ')], ['Tags', Object.entries(s.tags || {}).map(([k, v]) => `${k}=${v}`).join(', ')],
      ['Key', h('a.mono', { href: '#/keys/' + encodeURIComponent(s.kmsKeyId) }, s.kmsKeyId)], ['State of the key', s.kmsKeyState && badge(s.kmsKeyState)],
      ['Made', when(s.createdAt)], ['By', s.createdBy], ['Changed', when(s.updatedAt)], ['Rotation', s.rotation && `${s.rotation.kind} ${s.rotation.interval || s.rotation.cron || ''}`],
      ['Next rotation', s.rotation && s.rotation.nextRotationAt && when(s.rotation.nextRotationAt)], ['Last error of a rotation', s.rotation && s.rotation.lastError], ['Deleted', s.deletedAt && when(s.deletedAt)],
    ])),
    part('History', () => versions(path, again)),
    part('Consumers', () => consumers(path)),
  ];
}

// reveal shows the value for a while. It is never kept: hiding takes it out of
// the page.
async function reveal(path, place, button) {
  button.disabled = true;
  try {
    const v = await call('secrets/getSecretValue', { path, instance: 'console' });
    const text = decode(v.value);
    let left = hideAfter;
    const note = h('span.dim');
    const hide = () => { clearInterval(clock); replace(place); button.disabled = false; say('The value is hidden'); };
    const tick = () => { note.textContent = `version ${v.version}, hidden in ${left} s`; if (left-- <= 0) hide(); };
    const clock = setInterval(() => { if (place.isConnected) tick(); else clearInterval(clock); }, 1000);
    replace(place, h('div.value', { tabindex: '0', 'aria-label': 'Value' }, text === null ? v.value : text), text === null && h('p.hint', null, 'Not a text: this is its base64.'),
      h('div.actions', null,
        h('button', { type: 'button', onclick: (e) => copyValue(text === null ? v.value : text, e.target) }, 'Copy'),
        h('button', { type: 'button', onclick: hide }, 'Hide'), note));
    tick();
  } catch (err) {
    replace(place, trouble(err));
    button.disabled = false;
  }
}

// copyValue takes the value out of the clipboard again, if it is still there
// and the browser lets us look.
async function copyValue(text, button) {
  await copy(text, button);
  setTimeout(async () => {
    try { if (await navigator.clipboard.readText() === text) await navigator.clipboard.writeText(''); } catch { await navigator.clipboard.writeText('').catch(() => {}); }
  }, hideAfter * 1000);
}

async function versions(path, again) {
  const page = await call('secrets/listSecretVersions', { path, limit: 100 });
  const p = quote(path);
  const button = (text, options, kind = '') => h('button' + kind, { type: 'button', onclick: () => ask(options) }, text);
  return [table('Versions', [
    ['Version', (v) => v.version, 'num'], ['State', (v) => badge(v.state)], ['Labels', (v) => (v.labels || []).join(', ')], ['Size', (v) => v.size === undefined ? '' : bytes(v.size), 'num'],
    ['Made', (v) => when(v.createdAt)], ['By', (v) => v.createdBy], ['Last read', (v) => when(v.lastReadAt)], ['Why', (v) => v.reason || (v.changes || []).map((c) => c.reason).filter(Boolean).pop() || ''],
    ['Do', (v) => (v.labels || []).includes('current') || ['destroyed', 'pendingDestroy'].includes(v.state) ? '' : h('div.row', null,
      button('Destroy', {
        title: `Destroy version ${v.version}`, text: 'For good: its value can never be read again. Its place in the history stays. Refused while consumers may hold it.',
        fields: [{ name: 'reason', label: 'Reason', hint: 'Kept in the history' }], confirm: 'Destroy it', danger: true,
        command: () => `strongroom secret destroy ${p} ${v.version}`,
        act: (f) => call('secrets/destroyVersion', { path, version: v.version, clientToken: clientToken(), ...(f.reason ? { reason: f.reason } : {}) }).then(again),
      }, '.danger'))],
  ], page.versions || []), cli(`strongroom secret versions ${p}`)];
}

async function consumers(path) {
  const page = await call('secrets/listConsumers', { path, limit: 200 });
  const now = Date.now();
  const holds = (c) => !c.movedTo && c.mayHoldUntil && new Date(c.mayHoldUntil) > now;
  const rows = page.consumers || [];
  return [
    page.unknown && h('p', null, badge('unknown'), ` Nodes ${page.unknown.nodes.join(', ')} may have handed out values that are not known here until `, when(page.unknown.until)),
    table('Consumers', [
      ['Who', (c) => [c.principal, c.instance && h('span.dim', null, ' ' + c.instance)]], ['Version', (c) => c.version, 'num'],
      ['State', (c) => c.movedTo ? `moved to ${c.movedTo}` : c.confirmed ? 'confirmed' : holds(c) ? 'may hold it' : 'no more'],
      ['Last read', (c) => when(c.lastReadAt)], ['May hold it until', (c) => holds(c) ? when(c.mayHoldUntil) : ''],
    ], rows, 'Nobody was given a value, as far as is known.'),
    cli(`strongroom secret consumers ${quote(path)}`),
  ];
}
