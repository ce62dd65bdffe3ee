import { Chart, COLOURS } from '../chart';
import { bytes, duration, last, number } from '../format';
import { RunCommands } from '../commands';
import { Advisories, Stack, Table, Tile } from '../parts';
import { usePolled, useStore } from '../store';
import type { Episode, Evaluation, TimeBudget, Worker } from '../types';

export function Overview() {
  const { metrics, advisories, state, run } = useStore();
  const { updates, series } = metrics;
  const em = Object.keys(series).filter((n) => /^em_\d+$/.test(n)).sort((a, b) => Number(a.slice(3)) - Number(b.slice(3)));
  const now = (name: string): number | null => last(series[name]);
  return (
    <>
      <section aria-label="Advisories"><Advisories list={advisories} updates={updates.length} /></section>
      <RunCommands />
      <section class="tiles" aria-label="Now">
        <Tile label="Update" value={number(updates.length ? updates[updates.length - 1] : 0)} note={state?.phase} />
        <Tile label="Reward" value={number(now('reward_mean'))} />
        <Tile label="Sampled tokens/s" value={number(now('rollout_tokens_per_s'), 0)} />
        <Tile label="Learned tokens/s" value={number(now('learner_tokens_per_s'), 0)} />
        <Tile label="Seconds an update" value={number(now('seconds'), 1)} />
        <Tile label="Peak tokens" value={number(now('peak_tokens_mean'), 0)} note="mean of the batch" />
        <Tile label="Parity gap" value={number(last(series.parity_max_abs?.filter((v) => v !== null)))} note="learner against sampler" />
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
        <LearnerBudget series={series} />
        {state?.workers?.some((w) => w.budget) ? <WorkerBudget of={state.workers} />
          : <EpisodeBudget live={state?.workers !== null && state?.workers !== undefined} />}
      </section>
    </>
  );
}

// As many updates as a person calls "now".
const RECENT = 20;

const share = (total: number) => (v: number): string => `${((100 * v) / total).toFixed(0)}% (${duration(v)})`;

function LearnerBudget({ series }: { series: Record<string, (number | null)[]> }) {
  const recent = (name: string): number[] => (series[name] ?? []).slice(-RECENT).map((v) => v ?? 0);
  const sum = (values: number[]): number => values.reduce((n, v) => n + v, 0);
  const total = sum(recent('seconds'));
  if (!series.wait_seconds || total === 0) return null;
  const waiting = Math.min(total, sum(recent('wait_seconds')));
  const learn = recent('learn_seconds');
  const learning = Math.min(total - waiting, sum(learn));
  // What of it went into preparing data; the rest is the optimiser's.
  const busy = (series.learner_busy ?? []).slice(-RECENT);
  const preparing = sum(learn.map((seconds, i) => seconds * (1 - (busy[i] ?? 1))));
  const rest = total - waiting - learning;
  const parts = learning > 0
    ? [
      { label: 'waiting for episodes', value: waiting, colour: COLOURS[4]! },
      { label: 'preparing batches', value: preparing, colour: COLOURS[5]! },
      { label: 'learning', value: learning - preparing, colour: COLOURS[0]! },
      { label: 'publishing and the rest', value: rest, colour: COLOURS[6]! },
    ]
    : [
      { label: 'waiting for episodes', value: waiting, colour: COLOURS[4]! },
      { label: 'learning, publishing, saving', value: rest, colour: COLOURS[0]! },
    ];
  return (
    <figure class="chart">
      <figcaption><strong>Where the learner's time goes</strong> <span class="quiet">last {RECENT} updates</span></figcaption>
      <Stack title="Time of the learner" unit={share(total)} parts={parts} />
    </figure>
  );
}

function partsOf(b: TimeBudget): { label: string; value: number; colour: string }[] {
  return [
    { label: 'generating', value: b.generating, colour: COLOURS[0]! },
    { label: 'environment', value: b.environment, colour: COLOURS[1]! },
    { label: 'waiting for the learner', value: b.waiting, colour: COLOURS[4]! },
  ];
}

const whole = (b: TimeBudget): number => b.generating + b.environment + b.waiting;

/** Of every worker, wherever it runs. */
function WorkerBudget({ of }: { of: Worker[] }) {
  const known = of.filter((w) => w.budget && whole(w.budget) > 0);
  const all: TimeBudget = { generating: 0, environment: 0, waiting: 0 };
  for (const { budget } of known) {
    all.generating += budget!.generating;
    all.environment += budget!.environment;
    all.waiting += budget!.waiting;
  }
  return (
    <figure class="chart">
      <figcaption>
        <strong>Where the workers' time goes</strong> <span class="quiet">their episodes over the last half minute, added up</span>
      </figcaption>
      {known.length === 0 ? <p class="quiet">No turn was played in the last half minute.</p>
        : <Stack title="Time of the workers' episodes" unit={share(whole(all))} parts={partsOf(all)} />}
      {known.length > 1 ? (
        <Table label="Time of each worker" head={['Worker', 'Generating, environment, waiting']}>
          {known.map((w) => (
            <tr key={w.id}><th scope="row" class="long">{w.id}</th>
              <td><Stack title={`Time of ${w.id}`} unit={share(whole(w.budget!))} parts={partsOf(w.budget!)} /></td></tr>
          ))}
        </Table>
      ) : null}
    </figure>
  );
}

/** Where workers tell nothing of their time, that of the episodes that are known. */
function EpisodeBudget({ live }: { live: boolean }) {
  const answer = usePolled<{ episodes: Episode[] }>('/api/episodes', 2000);
  const sums: TimeBudget = { generating: 0, environment: 0, waiting: 0 };
  for (const span of (answer?.episodes ?? []).flatMap((e) => e.spans))
    if (span.kind in sums) sums[span.kind as keyof TimeBudget] += span.seconds;
  const total = whole(sums);
  return (
    <figure class="chart">
      <figcaption><strong>Where the time of episodes goes</strong> <span class="quiet">running and last ended</span></figcaption>
      {total > 0 ? <Stack title="Time of episodes" unit={share(total)} parts={partsOf(sums)} />
        : <p class="quiet">{live ? 'No episode has been played yet.' : "A run's files do not hold it."}</p>}
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
