// The trail: what was done, by whom, with which outcome.
import { h, replace, say } from '../lib/dom.js';
import { call, pages } from '../lib/api.js';
import { count, quote } from '../lib/format.js';
import { badge, cli, facts, heading, load, panel, part, table, when } from '../lib/ui.js';

// The server answers the oldest first: so many are fetched, and the newest of
// them shown.
const most = 2000, shown = 200;

export async function audit([event = '']) {
  const inputs = {};
  const field = (name, label, value = '') => {
    inputs[name] = h('input', { id: 'q' + name, type: 'text', value, autocomplete: 'off', spellcheck: 'false' });
    return h('div.field', null, h('label', { for: 'q' + name }, label), inputs[name]);
  };
  inputs.outcome = h('select', { id: 'qoutcome' }, ['', 'ok', 'denied', 'failed'].map((o) => h('option', { value: o }, o || 'any')));
  const place = h('div');
  const detail = h('div', { 'aria-live': 'polite' });
  const since = h('select', { id: 'qsince' }, [['1', 'the last hour'], ['24', 'the last day'], ['168', 'the last week'], ['', 'all time']].map(([hours, text]) => h('option', { value: hours, selected: event ? hours === '168' : hours === '1' }, text)));
  const search = () => load(place, async () => {
    replace(detail);
    const q = Object.fromEntries(Object.entries(inputs).map(([k, el]) => [k, el.value.trim()]).filter(([, v]) => v));
    const from = since.value && new Date(Date.now() - since.value * 3600e3).toISOString();
    const found = await pages('audit/queryEvents', { ...q, ...(from ? { from } : {}), limit: 500 }, 'events', most);
    found.entries.reverse();
    say(count(found.entries.length, 'event', 'events'));
    const flags = Object.entries(q).map(([k, v]) => ` --${k.replace(/[A-Z]/g, (c) => '-' + c.toLowerCase())} ${quote(v)}`).join('') + (from ? ` --from ${from}` : '');
    return [
      found.more && h('p', null, badge('failed'), ` There are more than ${most} such events; these are the oldest. Narrow the search for the others.`),
      table('Events', [
        ['When', (e) => when(e.time)], ['Event', (e) => e.event], ['Outcome', (e) => badge(e.outcome)], ['Who', (e) => e.principal || h('span.dim', null, 'unknown')],
        ['From', (e) => e.sourceAddress], ['What', (e) => h('span.mono', null, e.path || e.keyId || e.reason || '')],
        ['Details', (e) => h('button', { type: 'button', 'aria-label': `Show ${e.event}`, onclick: () => { replace(detail, event1(e)); detail.scrollIntoView({ block: 'nearest' }); } }, 'Show')],
      ], found.entries.slice(0, shown), 'No such event.'),
      found.entries.length > shown && h('p.hint', null, `The newest ${shown} of ${found.entries.length} are shown.`),
      cli('strongroom audit query' + flags),
    ];
  });
  search();
  return [
    heading('Audit', 'The trails of all members, merged by time. What is read here is an event, too.'),
    panel('Search', h('form', { role: 'search', onsubmit: (e) => { e.preventDefault(); search(); } },
      h('div.filters', null, field('event', 'Event', event), field('principal', 'Who'), field('path', 'Path of a secret'), field('keyId', 'Id of a key'), field('requestId', 'Id of a request'), field('decisionId', 'Id of a decision'),
        h('div.field', null, h('label', { for: 'qoutcome' }, 'Outcome'), inputs.outcome), h('div.field', null, h('label', { for: 'qsince' }, 'In'), since), h('button.main', { type: 'submit' }, 'Search'))), place),
    detail,
    part('Chains', async () => {
      const page = await call('audit/listChains');
      return [table('Chains', [
        ['Node', (c) => c.node], ['Events', (c) => c.sequence, 'num'], ['Anchored', (c) => when(c.anchoredAt)], ['State', (c) => c.trouble ? [badge('failed'), ' ', c.trouble] : badge('ok')],
        ['Copies', (c) => (c.holders || []).map((x) => x.nodeId + (x.broken ? ` (broken: ${x.broken})` : x.lag ? ` (${x.lag} behind)` : '')).join(', ')],
      ], page.chains || []), (page.unreachable || []).length ? h('p', null, 'Could not be asked: ', page.unreachable.join(', ')) : null, cli('strongroom audit chains')];
    }),
  ];
}

function event1(e) {
  return panel(e.event, facts([
    ['Outcome', badge(e.outcome)], ['Code', e.code], ['When', when(e.time)], ['Who', e.principal], ['Credential', e.credentialId], ['From', e.sourceAddress], ['By way of', e.via], ['Node', e.node], ['Number', e.sequence],
    ['Path', e.path && h('code', null, e.path)], ['Version', e.version], ['Key', e.keyId && h('code', null, e.keyId)], ['Why', e.reason], ['Decision', e.decisionId && h('code', null, e.decisionId)],
    ['Request', h('code', null, e.requestId)], ['KMS', (e.kms || []).map((k) => k.event).join(', ')],
  ]), cli(e.decisionId ? `strongroom explain ${e.decisionId}` : `strongroom audit trace ${e.requestId}`));
}
