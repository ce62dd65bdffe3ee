import { Chart, COLOURS } from '../chart';
import { number } from '../format';
import { NotLive, Stack } from '../parts';
import { usePolled, useStore } from '../store';
import type { Admission, Quarantined } from '../types';

export function Staleness() {
  const { state, metrics } = useStore();
  const quarantined = usePolled<Quarantined[]>('/api/quarantined', 3000) ?? [];
  const counts = new Map<number, number>();
  for (const s of metrics.series.staleness_max ?? []) if (s !== null) counts.set(s, (counts.get(s) ?? 0) + 1);
  const bars = [...counts].sort((a, b) => a[0] - b[0]);
  const most = Math.max(1, ...bars.map((b) => b[1]));
  const ledger = state?.ledger;
  return (
    <>
      {ledger ? (
        <section class="card" aria-label="Ledger">
          <strong>Tasks</strong> <span class="quiet">{number(ledger.total)} in all; every task is in one state</span>
          <Stack title="Tasks by state" unit={(v) => number(v)} parts={[
            { label: 'pending', value: ledger.pending, colour: COLOURS[6]! }, { label: 'leased', value: ledger.leased, colour: COLOURS[5]! },
            { label: 'buffered', value: ledger.buffered, colour: COLOURS[4]! }, { label: 'consumed', value: ledger.consumed, colour: COLOURS[2]! },
            { label: 'quarantined', value: ledger.quarantined, colour: COLOURS[1]! },
          ]} />
        </section>
      ) : <NotLive what="the ledger" />}
      {state?.admission ? <AdmissionCard of={state.admission} /> : null}
      <section class="charts">
        <figure class="chart">
          <figcaption><strong>Staleness of updates</strong> <span class="quiet">oldest token of the batch, in versions; 0 is synchronous</span></figcaption>
          {bars.length === 0 ? <p class="quiet">No numbers yet.</p> : (
            <table class="bars"><tbody>{bars.map(([version, n]) => (
              <tr key={version}><th scope="row">{version}</th><td class="lane">
                <svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"><rect width={(100 * n) / most} height="8" fill={COLOURS[0]} /></svg>
              </td><td>{n} updates</td></tr>))}</tbody></table>
          )}
        </figure>
        <Chart title="Staleness over time" x={metrics.updates} lines={[{ label: 'staleness_max', values: metrics.series.staleness_max }]} />
        <Chart title="Given up" note="tasks so far" x={metrics.updates} lines={[{ label: 'quarantined', values: metrics.series.quarantined }]} />
      </section>
      {quarantined.length > 0 ? (
        <section class="card" aria-label="Quarantined tasks">
          <strong>Tasks that were given up</strong>
          {quarantined.map((q) => <details key={q.task_id}><summary>{q.task_id}</summary><ol>{q.reasons.map((r, i) => <li key={i}>{r}</li>)}</ol></details>)}
        </section>
      ) : null}
    </>
  );
}

function AdmissionCard({ of: a }: { of: Admission }) {
  const places = a.max_concurrent - a.running;
  const fresh = (a.staleness_bound + a.version + 1) * a.batch - (a.accepted + a.running);
  return (
    <section class="card" aria-label="Admission">
      <strong>Admission</strong> <span class="quiet">a task is leased while the smaller of the two is above 0</span>
      <p><code>max_concurrent − running = {a.max_concurrent} − {a.running} = {places}</code>{places <= fresh ? ' ← binds' : ''}</p>
      <p><code>(η + version + 1)·B − (accepted + running) = ({a.staleness_bound} + {a.version} + 1)·{a.batch} − ({a.accepted} + {a.running}) = {fresh}</code>
        {fresh < places ? ' ← binds' : ''}</p>
    </section>
  );
}
