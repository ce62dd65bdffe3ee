import { Chart, COLOURS } from '../chart';
import { bytes, duration, last, number } from '../format';
import { RunCommands } from '../commands';
import { Advisories, Stack, Tile } from '../parts';
import { usePolled, useStore } from '../store';
import type { Episode, Evaluation } from '../types';

export function Overview() {
  const { metrics, advisories, state, run } = useStore();
  const { updates, series } = metrics;
  const em = Object.keys(series).filter((n) => /^em_\d+$/.test(n)).sort((a, b) => Number(a.slice(3)) - Number(b.slice(3)));
  const now = (name: string): number | null => last(series[name]);
  return (
    <>
      <section aria-label="Advisories"><Advisories list={advisories} /></section>
      <RunCommands />
      <section class="tiles" aria-label="Now">
        <Tile label="Update" value={number(updates.length ? updates[updates.length - 1] : 0)} note={state?.phase} />
        <Tile label="Reward" value={number(now('reward_mean'))} />
        <Tile label="Sampled tokens/s" value={number(now('rollout_tokens_per_s'), 0)} />
        <Tile label="Learned tokens/s" value={number(now('learner_tokens_per_s'), 0)} />
        <Tile label="Seconds an update" value={number(now('seconds'), 1)} />
        <Tile label="Peak tokens" value={number(now('peak_tokens_mean'), 0)} note="mean of the batch" />
        <Tile label="Parity gap" value={number(now('parity_max_abs'))} note="learner against sampler" />
        <Tile label="Memory" value={bytes(now('rss_bytes'))} />
        {state?.workers ? <Tile label="Workers" value={number(state.workers.length)} /> : null}
      </section>
      {run?.evaluation ? <EvaluationTable of={run.evaluation} /> : null}
      <section class="charts">
        <Chart title="Mean reward of the batch" x={updates} lines={[{ label: 'reward', values: series.reward_mean }]} />
        <Chart title="Exact match by number of objectives" x={updates}
          lines={em.map((n) => ({ label: `${n.slice(3)} objective${n === 'em_1' ? '' : 's'}`, values: series[n] }))} />
        <Chart title="Tokens per second" x={updates} lines={[
          { label: 'sampled', values: series.rollout_tokens_per_s }, { label: 'learned', values: series.learner_tokens_per_s }]} />
        <LearnerBudget seconds={series.seconds} wait={series.wait_seconds} />
        <TimeBudget live={state?.workers !== null && state?.workers !== undefined} />
      </section>
    </>
  );
}

// As many updates as a person calls "now".
const RECENT = 20;

function LearnerBudget({ seconds, wait }: { seconds: (number | null)[] | undefined; wait: (number | null)[] | undefined }) {
  const sum = (values: (number | null)[] | undefined): number => (values ?? []).slice(-RECENT).reduce<number>((n, v) => n + (v ?? 0), 0);
  const total = sum(seconds);
  const waiting = Math.min(total, sum(wait));
  if (!wait || total === 0) return null;
  return (
    <figure class="chart">
      <figcaption><strong>Where the learner's time goes</strong> <span class="quiet">last {RECENT} updates</span></figcaption>
      <Stack title="Time of the learner" unit={(v) => `${((100 * v) / total).toFixed(0)}% (${duration(v)})`} parts={[
        { label: 'waiting for episodes', value: waiting, colour: COLOURS[4]! },
        { label: 'learning, publishing, saving', value: total - waiting, colour: COLOURS[0]! },
      ]} />
    </figure>
  );
}

function TimeBudget({ live }: { live: boolean }) {
  const answer = usePolled<{ episodes: Episode[] }>('/api/episodes', 2000);
  const sums = { generating: 0, environment: 0, waiting: 0 } as Record<string, number>;
  for (const episode of answer?.episodes ?? [])
    for (const span of episode.spans) sums[span.kind] = (sums[span.kind] ?? 0) + span.seconds;
  const total = Object.values(sums).reduce((a, b) => a + b, 0);
  return (
    <figure class="chart">
      <figcaption><strong>Where the time of episodes goes</strong> <span class="quiet">running and last ended, of this process</span></figcaption>
      {total > 0
        ? <Stack title="Time of episodes" unit={(v) => `${((100 * v) / total).toFixed(0)}% (${duration(v)})`} parts={[
          { label: 'generating', value: sums.generating!, colour: COLOURS[0]! },
          { label: 'environment', value: sums.environment!, colour: COLOURS[1]! },
          { label: 'waiting for the learner', value: sums.waiting!, colour: COLOURS[4]! },
        ]} />
        : <p class="quiet">{live ? 'No episode has been played yet.' : 'Known only while a worker runs in this process.'}</p>}
    </figure>
  );
}

function EvaluationTable({ of }: { of: Evaluation }) {
  const before = of.before?.exact_match ?? {};
  const after = of.after?.exact_match ?? {};
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort((a, b) => Number(a) - Number(b));
  return (
    <section class="card" aria-label="Evaluation">
      <strong>Evaluation on held-out tasks</strong> <span class="quiet">exact match, share of objectives</span>
      <table>
        <thead><tr><th scope="col">Objectives</th><th scope="col">Before</th><th scope="col">After update {of.update}</th></tr></thead>
        <tbody>{keys.map((k) => <tr key={k}><th scope="row">{k}</th><td>{number(before[k])}</td><td>{number(after[k])}</td></tr>)}</tbody>
      </table>
    </section>
  );
}
