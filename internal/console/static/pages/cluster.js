// The members, who leads, how far each is, and what is on its way.
import { h } from '../lib/dom.js';
import { call } from '../lib/api.js';
import { quote } from '../lib/format.js';
import { ask, badge, cli, facts, heading, panel, part, table, when } from '../lib/ui.js';

export async function cluster(_, again) {
  const status = await call('cluster/status');
  return [
    heading('Cluster', null),
    panel('Now', facts([
      ['Cluster', h('code', null, status.clusterId)], ['Leader', status.leader && status.leader.nodeId], ['Entry', status.index], ['Feature level', status.level],
      ['Held back by', (status.heldBack || []).join('; ')], ['Trouble with trails', (status.auditTrouble || []).join('; ')],
    ]), cli('strongroom cluster status')),
    panel('Nodes', table('Nodes', [
      ['Node', (n) => n.nodeId], ['Role', (n) => badge(n.role)], ['Answers', (n) => badge(n.alive ? 'ok' : 'silent')], ['HSM', (n) => badge(n.hsm)], ['Audit trail', (n) => n.audit ? badge(n.audit) : ''],
      ['Behind', (n) => Math.max(0, status.index - n.appliedIndex), 'num'], ['Clock', (n) => n.clockOffset || ''], ['Release', (n) => n.version], ['Address', (n) => h('span.mono', null, n.apiAddress)],
      ['Do', (n) => n.role === 'follower' && n.alive ? h('button', {
        type: 'button', onclick: () => ask({
          title: `Have ${n.nodeId} lead`, text: 'Takes a moment; requests wait and are not lost.', confirm: 'Hand leadership over',
          command: () => `strongroom cluster transfer-leadership --to ${quote(n.nodeId)}`, act: () => call('cluster/transferLeadership', { to: n.nodeId }).then(again),
        }),
      }, 'Let it lead') : ''],
    ], status.nodes || [])),
    part('Members', async () => {
      const { members } = await call('cluster/members');
      return [table('Members', [
        ['Node', (m) => m.nodeId], ['Role', (m) => badge(m.role)], ['Vote', (m) => m.voter ? 'yes' : 'no'], ['In step since', (m) => when(m.inStepSince)], ['Root key', (m) => badge(m.rootKey)], ['Waits for', (m) => m.waiting || ''],
      ], members || []), cli('strongroom cluster members')];
    }),
    part('Certificates', async () => {
      const out = await call('cluster/tls');
      return [table('Certificates', [
        ['Node', (n) => n.nodeId], ['For clients, until', (n) => when(n.apiNotAfter)], ['For members, until', (n) => when(n.notAfter)], ['Authority', (n) => h('span.mono', null, (n.authority || '').slice(0, 16))],
        ['Trouble', (n) => n.error || (n.refused || []).join('; ')],
      ], out.members || []), cli('strongroom cluster tls')];
    }),
    part('Jobs', async () => {
      const page = await call('cluster/listJobs', {});
      return [table('Jobs', [
        ['Job', (j) => h('code', null, j.jobId)], ['Kind', (j) => j.kind], ['State', (j) => badge(j.state)], ['Done', (j) => progress(j)], ['Started', (j) => when(j.createdAt)], ['Error', (j) => j.error || ''],
      ], page.jobs || [], 'No long work is on its way.'), cli('strongroom cluster list-jobs')];
    }),
  ];
}

function progress(j) {
  if (!j.total) return j.done === undefined ? '' : j.done;
  return [h('progress', { max: j.total, value: j.done || 0, 'aria-label': 'Progress' }), ` ${j.done || 0} of ${j.total}`];
}
