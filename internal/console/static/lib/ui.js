// The parts that pages are made of.
import { h, replace, say } from './dom.js';
import { ago, exact } from './format.js';

// when shows a time.
export function when(text) { return text ? h('time', { datetime: text, title: exact(text) }, ago(text)) : h('span.dim', null, '–'); }

const tones = {
  active: 'ok', ok: 'ok', ready: 'ok', leader: 'ok', follower: 'ok', done: 'ok', allow: 'ok',
  disabled: 'warn', retiring: 'warn', pendingImport: 'warn', pendingDestroy: 'warn', pendingDeletion: 'warn', paused: 'warn', joining: 'warn', unknown: 'warn', failed: 'bad',
  destroyed: 'bad', down: 'bad', denied: 'bad', missing: 'bad', expired: 'bad', deny: 'bad', silent: 'bad',
};

// badge shows a state: always as a word, the colour only repeats it.
export function badge(state) { return h('span.badge.' + (tones[state] || 'plain'), null, state); }

// table makes one from columns [title, cell(row), class] that folds into cards
// on a narrow screen.
export function table(caption, columns, rows, empty = 'There is nothing here.') {
  if (!rows.length) return h('p.dim', null, empty);
  return h('div.scroll', { tabindex: '0', role: 'group', 'aria-label': caption }, h('table.cards', null,
    h('caption.unseen', null, caption),
    h('thead', null, h('tr', null, columns.map(([title, , kind]) => h('th' + (kind ? '.' + kind : ''), { scope: 'col' }, title)))),
    h('tbody', null, rows.map((row) => h('tr', null, columns.map(([title, cell, kind]) => h('td' + (kind ? '.' + kind : ''), { 'data-label': title }, cell(row))))))));
}

export function facts(entries) {
  return h('dl.facts', null, entries.filter(([, value]) => value !== undefined && value !== null && value !== '').map(([name, value]) => [h('dt', null, name), h('dd', null, value)]));
}

export function panel(title, ...children) { return h('section.panel', { 'aria-label': title }, h('h2', null, title), children); }

export function heading(title, text, ...more) { return h('header', null, h('h1', { tabindex: '-1' }, title), text && h('p.dim', null, text), more); }

// cli shows the command that does the same.
export function cli(command) {
  return h('div.cli', null, h('span.unseen', null, 'The same in a terminal: '), h('code', null, command),
    h('button', { type: 'button', 'aria-label': 'Copy the command', onclick: (e) => copy(command, e.target) }, 'Copy'));
}

export async function copy(text, button) {
  await navigator.clipboard.writeText(text);
  const before = button.textContent;
  button.textContent = 'Copied';
  say('Copied');
  setTimeout(() => { button.textContent = before; }, 2000);
}

const ways = {
  AccessDenied: 'You lack this right. An administrator finds the reason by the decision id: strongroom explain DECISION-ID',
  HsmUnavailable: 'The HSM of this node does not work. Key health says where it does.',
  NoLeader: 'The cluster has no leader right now. Try again in a moment.',
  Uncertain: 'It may have happened. Look before you do it again.',
  RateLimited: 'Too many requests. Wait a little.',
  AuditUnavailable: 'The audit trail cannot be written, so nothing is answered. See the runbook about the audit trail.',
};

// trouble shows an error with the way out.
export function trouble(err) {
  const details = err.details || {};
  return h('div.error', { role: 'alert' }, h('b', null, err.code || 'Error'), ' ', err.message,
    ways[err.code] && h('p.hint', null, ways[err.code]),
    (details.decisionId || err.requestId) && h('p.hint.mono', null, details.decisionId ? `decision ${details.decisionId}` : `request ${err.requestId}`));
}

// load shows what make answers in the place of el, and errors as such.
export async function load(el, make) {
  el.setAttribute('aria-busy', 'true');
  try {
    replace(el, await make());
  } catch (err) {
    replace(el, trouble(err));
  } finally {
    el.removeAttribute('aria-busy');
  }
}

// part is a panel that loads by itself: what one caller may not see does not
// keep the rest of the page from being there.
export function part(title, make) {
  const body = h('div', null, h('p.dim', null, 'Loading …'));
  load(body, make);
  return panel(title, body);
}

// ask opens a dialog. fields are [name, label, hint, kind]; act does it, and the
// dialog stays open with the error if it fails.
export function ask({ title, text, fields = [], confirm, danger, command, act }) {
  return new Promise((resolve) => {
    const inputs = {};
    const place = h('div');
    const line = command && h('code');
    const renew = () => { if (line) line.textContent = command(values()); };
    const values = () => Object.fromEntries(Object.entries(inputs).map(([k, el]) => [k, el.type === 'checkbox' ? el.checked : el.value]));
    const form = h('form', {
      onsubmit: async (e) => {
        e.preventDefault();
        submit.disabled = true;
        try {
          const result = await act(values());
          dialog.close();
          resolve(result === undefined ? true : result);
        } catch (err) {
          replace(place, trouble(err));
          submit.disabled = false;
        }
      },
    });
    const id = 'd' + Math.random().toString(36).slice(2);
    const dialog = h('dialog', { 'aria-labelledby': id, onclose: () => { dialog.remove(); resolve(null); } }, form);
    const submit = h('button.' + (danger ? 'danger' : 'main'), { type: 'submit' }, confirm);
    form.append(h('h2', { id }, title), ...(text ? [h('p', null, text)] : []), place,
      ...fields.map(({ name, label, hint, kind = 'text', value = '', options, required }) => {
        const el = options ? h('select', { id: id + name, oninput: renew }, options.map((o) => h('option', { value: o }, o)))
          : kind === 'area' ? h('textarea', { id: id + name, required, autocomplete: 'off', spellcheck: 'false' })
            : h('input', { id: id + name, type: kind, value, required, autocomplete: 'off', oninput: renew });
        inputs[name] = el;
        return h('div.field', null, h('label', { for: id + name }, label), el, hint && h('p.hint', null, hint));
      }),
      h('div.actions', null, submit, h('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel')),
      ...(line ? [h('div.cli', null, h('span.unseen', null, 'The same in a terminal: '), line)] : []));
    renew();
    document.body.append(dialog);
    dialog.showModal();
  });
}
