import { Button, useCommands } from '../commands';
import { bytes, duration, number } from '../format';
import { NotLive, Sign, Table, Tile } from '../parts';
import { useStore } from '../store';
import type { ClusterNode, State, Worker } from '../types';

const SILENT_SECONDS = 15;

const HEAD = [
  'Worker', 'State', 'Policy', 'Pulled in', 'Leases', 'Credit', 'Episodes', 'Tokens', 'Tokens/s', 'Unacknowledged', 'Memory', 'Last heard',
  'Connected',
];

const DRAIN = 'It takes no more leases, plays its episodes to their end and leaves. '
  + 'In mem1 train another worker then takes its place; elsewhere its process ends.';

export function Workers() {
  const { state } = useStore();
  const commands = useCommands();
  if (!state?.workers) return <NotLive what="the workers" />;
  const newest = state.policy_version ?? 0;
  return (
    <>
      <section class="tiles">
        <Tile label="Connected" value={number(state.workers.length)} note={`learner at ${state.learner_address ?? ''}`} />
        <Tile label="Newest policy" value={number(newest)} />
        {Object.entries(state.worker ?? {}).map(([name, value]) => (
          <Tile key={name} label={name.replaceAll('_', ' ')} value={number(value, 1)} note="worker of this process" />
        ))}
      </section>
      {state.workers.length === 0 ? (
        <p class="card">No worker is connected. Start one: <code>./mem1 rollout --learner {state.learner_address}</code></p>
      ) : (
        <Table label="Workers" head={commands ? [...HEAD, 'Command'] : HEAD}>
          {state.workers.map((w) => <Row key={w.id} of={w} newest={newest} bound={state.staleness_bound ?? 0} commands={commands} />)}
        </Table>
      )}
      {state.nodes && state.nodes.length > 0 ? <Nodes of={state.nodes} workers={state.workers} /> : null}
    </>
  );
}

function Row({ of: w, newest, bound, commands }: { of: Worker; newest: number; bound: number; commands: boolean }) {
  const behind = newest - w.applied_version;
  const silent = w.silent_seconds > SILENT_SECONDS;
  return (
    <tr>
      <th scope="row">{w.id}</th>
      <td>
        <Sign level={silent ? 'error' : behind > bound ? 'warning' : 'info'} />{' '}
        {silent ? 'silent' : behind > 0 ? `${behind} behind` : 'up to date'}
      </td>
      <td>{w.applied_version < 0 ? 'none yet' : w.applied_version}</td>
      <td class="nowrap">{w.pull_seconds === null || w.pull_seconds === undefined ? '–' : duration(w.pull_seconds)}</td>
      <td>{w.leases}</td><td>{w.credit}</td><td>{number(w.running_episodes)}</td><td>{number(w.generated_tokens)}</td>
      <td>{number(w.tokens_per_second, 0)}</td><td>{number(w.unacknowledged)}</td>
      <td class="nowrap">{bytes(w.resident_bytes)}</td>
      <td>{duration(w.silent_seconds)} ago</td><td>{duration(w.connected_seconds)}</td>
      {commands ? (
        <td><Button label="Drain" name={`Drain worker ${w.id}`}
          of={{ command: 'drain_worker', target: w.id, title: `Drain worker ${w.id}`, text: DRAIN }} /></td>
      ) : null}
    </tr>
  );
}

function Nodes({ of, workers }: { of: ClusterNode[]; workers: NonNullable<State['workers']> }) {
  const connected = new Set(workers.map((w) => w.id));
  return (
    <Table label="Nodes of the cluster" head={['Node', 'Incarnation', 'Role', 'Worker', 'Membership', 'Heartbeats', 'Stream', 'Reported']}>
      {of.map((n) => (
        <tr key={`${n.address} ${n.incarnation}`}>
          <th scope="row">{n.address}</th>
          <td>{n.incarnation}</td><td>{n.roles.join(', ')}</td><td>{n.worker ?? ''}</td><td>{n.membership.replaceAll('_', ' ')}</td>
          <td><Sign level={n.reachable ? 'info' : 'error'} /> {n.reachable ? 'arrive' : 'unreachable'}</td>
          <td>{n.worker === null ? '' : connected.has(n.worker) ? 'connected' : <><Sign level="error" /> none</>}</td>
          <td>{n.report_seconds === null ? '' : `${duration(n.report_seconds)} ago`}</td>
        </tr>
      ))}
    </Table>
  );
}
