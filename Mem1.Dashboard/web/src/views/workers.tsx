import { Button, useCommands } from '../commands';
import { duration, number } from '../format';
import { NotLive, Sign, Table, Tile } from '../parts';
import { useStore } from '../store';

const SILENT_SECONDS = 15;

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
        {Object.entries(state.worker ?? {}).map(([name, value]) => <Tile key={name} label={name.replaceAll('_', ' ')} value={number(value, 1)} note="worker of this process" />)}
      </section>
      <Table label="Workers" head={['Worker', 'State', 'Policy', 'Leases', 'Credit', 'Episodes', 'Tokens', 'Tokens/s', 'Unacknowledged', 'Last heard', 'Connected', ...(commands ? [''] : [])]}>
        {state.workers.map((w) => {
          const behind = newest - w.applied_version;
          const silent = w.silent_seconds > SILENT_SECONDS;
          return (
            <tr key={w.id}>
              <th scope="row">{w.id}</th>
              <td><Sign level={silent ? 'error' : behind > 0 ? 'warning' : 'info'} /> {silent ? 'silent' : behind > 0 ? `${behind} behind` : 'up to date'}</td>
              <td>{w.applied_version < 0 ? 'none yet' : w.applied_version}</td>
              <td>{w.leases}</td><td>{w.credit}</td><td>{number(w.running_episodes)}</td><td>{number(w.generated_tokens)}</td>
              <td>{number(w.tokens_per_second, 0)}</td><td>{number(w.unacknowledged)}</td>
              <td>{duration(w.silent_seconds)} ago</td><td>{duration(w.connected_seconds)}</td>
              {commands ? <td><Button label="Drain" name={`Drain worker ${w.id}`} of={{ command: 'drain_worker', target: w.id, title: `Drain worker ${w.id}`,
                text: 'It takes no more leases, plays its episodes to their end and leaves. In mem1 train another worker then takes its place; elsewhere its process ends.' }} /></td> : null}
            </tr>
          );
        })}
      </Table>
      {state.nodes && state.nodes.length > 0 ? (
        <Table label="Nodes of the cluster" head={['Node', 'Incarnation', 'Role', 'Worker', 'Membership', 'Heartbeats', 'Reported']}>
          {state.nodes.map((n) => (
            <tr key={`${n.address} ${n.incarnation}`}>
              <th scope="row">{n.address}</th>
              <td>{n.incarnation}</td><td>{n.roles.join(', ')}</td><td>{n.worker ?? ''}</td><td>{n.membership.replaceAll('_', ' ')}</td>
              <td><Sign level={n.reachable ? 'info' : 'error'} /> {n.reachable ? 'arrive' : 'unreachable'}</td>
              <td>{n.report_seconds === null ? '' : `${duration(n.report_seconds)} ago`}</td>
            </tr>
          ))}
        </Table>
      ) : null}
      {state.workers.length === 0 ? <p class="card">No worker is connected. Start one: <code>./mem1 rollout --learner {state.learner_address}</code></p> : null}
    </>
  );
}
