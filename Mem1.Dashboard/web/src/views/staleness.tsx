import { Chart, COLOURS } from '../chart';
import { last, number } from '../format';
import { NotLive, Sign, Stack } from '../parts';
import { usePolled, useStore } from '../store';
import type { Ledger, Quarantined, State } from '../types';

export function Staleness() {
  const { state, metrics } = useStore();
  const quarantined = usePolled<Quarantined[]>('/api/quarantined', 3000) ?? [];
  const counts = new Map<number, number>();
  for (const s of metrics.series.staleness_max ?? []) if (s !== null) counts.set(s, (counts.get(s) ?? 0) + 1);
  const bars = [...counts].sort((a, b) => a[0] - b[0]);
  const ledger = state?.ledger;
  return (
    <>
      {ledger ? <LedgerCard of={ledger} /> : <NotLive what="the ledger" />}
      {state?.workers ? <AdmissionCard of={state} /> : null}
      <section class="charts">
        <Bars title="Staleness of updates" note="oldest token of the batch, in versions; 0 is synchronous" unit="updates" bars={bars} />
        <TokenAges series={metrics.series} bound={state?.staleness_bound ?? null} />
        <Nothing series={metrics.series} />
        <Chart title="Staleness over time" x={metrics.updates} lines={[
          { label: 'staleness_max', values: metrics.series.staleness_max },
          { label: 'staleness_mean', values: metrics.series.staleness_mean }]} />
        <Chart title="Given up" note="tasks so far" x={metrics.updates}
          lines={[{ label: 'quarantined', values: metrics.series.quarantined }]} />
      </section>
      {quarantined.length > 0 ? (
        <section class="card" aria-label="Quarantined tasks">
          <strong>Tasks that were given up</strong>
          {quarantined.map((q) => (
            <details key={q.task_id}><summary>{q.task_id}</summary><ol>{q.reasons.map((r, i) => <li key={i}>{r}</li>)}</ol></details>
          ))}
        </section>
      ) : null}
    </>
  );
}

function LedgerCard({ of }: { of: Ledger }) {
  const states = ['pending', 'leased', 'buffered', 'consumed', 'quarantined'] as const;
  const colours = [COLOURS[6]!, COLOURS[5]!, COLOURS[4]!, COLOURS[2]!, COLOURS[1]!];
  const sum = states.reduce((n, s) => n + of[s], 0);
  return (
    <section class="card" aria-label="Ledger">
      <strong>Tasks</strong> <span class="quiet">{number(of.total)} in all; every task is in one state</span>
      {of.total === 0 ? <p class="quiet">No task has been asked for yet.</p> : null}
      <Stack title="Tasks by state" unit={(v) => number(v)}
        parts={states.map((s, i) => ({ label: s, value: of[s], colour: colours[i]! }))} />
      <p>
        <code>{states.map((s) => number(of[s])).join(' + ')} = {number(sum)}</code>{' '}
        {sum === of.total ? <span class="quiet">which is the total</span> : <><Sign level="error" /> but the total is {number(of.total)}</>}
      </p>
    </section>
  );
}

const TERMS: Record<string, string> = {
  none: 'nothing: a task is about to be leased',
  paused: 'the run is paused',
  staleness: 'the staleness bound: all tasks that it lets be played are out or done',
  recovery: 'the restart: turns of before wait for the weights they were made with',
  concurrency_limit: 'the number of episodes that may be played at once',
  no_worker: 'no worker is connected',
  weights: 'the workers are still fetching weights',
  free_places: 'the workers have no free place',
  closed: 'the run is ending',
};

/** Why tasks are, or are not, leased now: the terms the ledger looks at, and which of them holds it back. */
function AdmissionCard({ of }: { of: State }) {
  const { admission: now, ledger, concurrency_limit: limit } = of;
  if (!now || !ledger) return null;
  const accepted = ledger.buffered + ledger.consumed + ledger.quarantined;
  const left = ledger.total - accepted - now.leased;
  const terms: { binds: string[]; name: string; value: string; holds: boolean }[] = [
    {
      binds: ['staleness', 'recovery'], name: '(η + v + 1) · B − (accepted + running)', holds: now.pending > 0,
      value: `${number(ledger.total)} − (${number(accepted)} + ${number(now.leased)}) = ${number(left)} wait`
        + `${now.parked > 0 ? `, ${number(now.parked)} of them for their weights` : ''}; `
        + `η = ${of.staleness_bound ?? 0}, v = ${of.policy_version ?? 0}`,
    },
    { binds: ['no_worker'], name: 'connected workers', value: number(now.workers), holds: now.workers > 0 },
    {
      binds: ['weights'], name: 'with weights in place that are new enough', holds: now.fresh_workers > 0,
      value: `${number(now.fresh_workers)}${now.needs_version !== null ? `; policy ${now.needs_version} or newer is needed` : ''}`,
    },
    { binds: ['free_places'], name: 'free places of those', value: number(now.free_places), holds: now.free_places > 0 },
    {
      binds: ['concurrency_limit'], name: 'allowed at once − running', holds: limit === null || limit > now.leased,
      value: limit === null ? 'no limit is set' : `${number(limit)} − ${number(now.leased)} = ${number(limit - now.leased)}`,
    },
    { binds: ['paused'], name: 'paused', value: of.paused ? 'yes' : 'no', holds: !of.paused },
  ];
  return (
    <section class="card" aria-label="Admission">
      <strong>Admission</strong> <span class="quiet">the next task is leased when every term allows it</span>
      <p>What holds it back now: <b>{TERMS[now.binds] ?? now.binds}</b>.</p>
      <table>
        <thead><tr><th scope="col">Term</th><th scope="col">Now</th><th scope="col">Allows</th></tr></thead>
        <tbody>{terms.map((t) => (
          <tr key={t.name}>
            <th scope="row">{t.name}</th><td>{t.value}</td>
            <td class="nowrap">{t.binds.includes(now.binds) ? <><Sign level="warning" /> <b>binds</b></> : t.holds ? 'yes' : 'no'}</td>
          </tr>
        ))}</tbody>
      </table>
    </section>
  );
}

/** Tokens by age over all updates, against the bound. */
function TokenAges({ series, bound }: { series: Record<string, (number | null)[]>; bound: number | null }) {
  const bins = new Map<number, number>();
  // Every age up to the bound has its row, also those that did not occur.
  for (let age = 0; age <= (bound ?? -1); age++) bins.set(age, 0);
  const names = Object.keys(series).filter((n) => /^staleness_tokens\.\d+$/.test(n));
  for (const name of names) {
    const age = Number(name.split('.')[1]);
    bins.set(age, series[name]!.reduce<number>((sum, v) => sum + (v ?? 0), 0));
  }
  if (names.length === 0) return null;
  return <Bars title="Age of tokens trained on" note={`in versions${bound === null ? '' : `; the bound is ${bound}`}`} unit="tokens"
    bars={[...bins].sort((a, b) => a[0] - b[0])} bound={bound} />;
}

/** Tries that came to nothing and turns that were not taken, by cause. */
function Nothing({ series }: { series: Record<string, (number | null)[]> }) {
  const bars = Object.keys(series).filter((n) => /^(discarded|refused)_/.test(n)).sort()
    .map((n) => [n.replaceAll('_', ' '), last(series[n]) ?? 0] as const).filter(([, n]) => n > 0);
  if (bars.length === 0) return null;
  return (
    <figure class="chart">
      <figcaption><strong>What came to nothing</strong> <span class="quiet">tries of tasks and turns so far, by cause</span></figcaption>
      <table><tbody>{bars.map(([name, n]) => <tr key={name}><th scope="row">{name}</th><td>{number(n)}</td></tr>)}</tbody></table>
    </figure>
  );
}

function Bars({ title, note, unit, bars, bound = null }: {
  title: string; note: string; unit: string; bars: [number, number][]; bound?: number | null;
}) {
  const most = Math.max(1, ...bars.map((b) => b[1]));
  const past = (age: number, n: number): boolean => bound !== null && age > bound && n > 0;
  return (
    <figure class="chart">
      <figcaption><strong>{title}</strong> <span class="quiet">{note}</span></figcaption>
      {bars.length === 0 ? <p class="quiet">No numbers yet.</p> : (
        <table class="bars"><tbody>{bars.map(([version, n]) => (
          <tr key={version} class={version === bound ? 'bound' : undefined}>
            <th scope="row" class="nowrap">{version}{version === bound ? <span class="quiet"> the bound</span> : null}</th>
            <td class="lane">
              <svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
                <rect width={(100 * n) / most} height="8" fill={past(version, n) ? COLOURS[1] : COLOURS[0]} />
              </svg>
            </td>
            <td class="nowrap">{past(version, n) ? <><Sign level="error" /> past the bound: </> : null}{number(n)} {unit}</td>
          </tr>
        ))}</tbody></table>
      )}
    </figure>
  );
}
