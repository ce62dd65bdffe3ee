import { Chart, COLOURS } from '../chart';
import { number } from '../format';
import { NotLive, Stack } from '../parts';
import { usePolled, useStore } from '../store';
import type { Quarantined, State } from '../types';

export function Staleness() {
  const { state, metrics } = useStore();
  const quarantined = usePolled<Quarantined[]>('/api/quarantined', 3000) ?? [];
  const counts = new Map<number, number>();
  for (const s of metrics.series.staleness_max ?? []) if (s !== null) counts.set(s, (counts.get(s) ?? 0) + 1);
  const bars = [...counts].sort((a, b) => a[0] - b[0]);
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
      {state?.workers ? <AdmissionCard of={state} /> : null}
      <section class="charts">
        <Bars title="Staleness of updates" note="oldest token of the batch, in versions; 0 is synchronous" unit="updates" bars={bars} />
        <TokenAges series={metrics.series} bound={state?.staleness_bound ?? null} />
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

/** Why tasks are, or are not, leased now: the terms the ledger looks at, and which of them holds it back. */
function AdmissionCard({ of }: { of: State }) {
  const workers = of.workers ?? [];
  const newest = of.policy_version ?? 0;
  const fit = workers.filter((w) => newest - w.applied_version <= (of.staleness_bound ?? 0));
  const places = fit.reduce((n, w) => n + w.credit, 0);
  const pending = of.ledger?.pending ?? 0;
  const leased = of.ledger?.leased ?? 0;
  const limit = of.concurrency_limit;
  const binds = of.paused ? 'the run is paused'
    : pending === 0 ? 'no task waits: all that the bound allows are out or done'
    : workers.length === 0 ? 'no worker is connected'
      : fit.length === 0 ? 'the workers are still fetching weights' : places === 0 ? 'the workers have no free place'
          : limit !== null && limit !== undefined && leased >= limit ? `the limit of ${limit} episodes at once` : 'nothing';
  return (
    <section class="card" aria-label="Admission">
      <strong>Admission</strong> <span class="quiet">a task is leased while each of these is above 0</span>
      <p>
        <code>pending {number(pending)}</code>, <code>free places {number(places)}</code> on{' '}
        <code>{fit.length} of {workers.length} workers</code> whose policy is at most <code>η = {of.staleness_bound ?? 0}</code> versions behind {newest}
        {limit === null || limit === undefined ? '' : <>, <code>{number(limit)} at once less {number(leased)} leased</code></>}.
      </p>
      <p>What holds it back now: <b>{binds}</b>.</p>
    </section>
  );
}

/** Tokens by age over all updates, against the bound. */
function TokenAges({ series, bound }: { series: Record<string, (number | null)[]>; bound: number | null }) {
  const bins = Object.keys(series).filter((n) => /^staleness_tokens\.\d+$/.test(n))
    .map((n) => ({ age: Number(n.split('.')[1]), tokens: series[n]!.reduce<number>((sum, v) => sum + (v ?? 0), 0) }))
    .sort((a, b) => a.age - b.age);
  if (bins.length === 0) return null;
  return <Bars title="Age of tokens trained on" note={`in versions${bound === null ? '' : `; the bound is ${bound}`}`} unit="tokens"
    bars={bins.map((b) => [b.age, b.tokens])} />;
}

function Bars({ title, note, unit, bars }: { title: string; note: string; unit: string; bars: [number, number][] }) {
  const most = Math.max(1, ...bars.map((b) => b[1]));
  return (
    <figure class="chart">
      <figcaption><strong>{title}</strong> <span class="quiet">{note}</span></figcaption>
      {bars.length === 0 ? <p class="quiet">No numbers yet.</p> : (
        <table class="bars"><tbody>{bars.map(([version, n]) => (
          <tr key={version}><th scope="row">{version}</th><td class="lane">
            <svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"><rect width={(100 * n) / most} height="8" fill={COLOURS[0]} /></svg>
          </td><td class="nowrap">{number(n)} {unit}</td></tr>))}</tbody></table>
      )}
    </figure>
  );
}
