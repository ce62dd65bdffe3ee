import { Chart } from '../chart';
import { useStore } from '../store';

// What belongs into one picture, and what a healthy run shows there.
const GROUPS: { title: string; note: string; names: string[] }[] = [
  { title: 'Losses', note: 'token means', names: ['policy_loss', 'value_loss'] },
  { title: 'Entropy', note: 'nats; a fall to 0 is a policy that stopped exploring', names: ['entropy', 'entropy_state', 'entropy_action'] },
  { title: 'Divergence', note: 'above 0.1 the policy runs away', names: ['kl', 'kl_k3', 'reference_kl'] },
  { title: 'Clip fraction', note: 'share of tokens held back', names: ['clip_fraction', 'clip_fraction_low', 'clip_fraction_high'] },
  { title: 'Probability ratio', note: 'the tail of the importance ratios', names: ['ratio_max', 'ratio_p99', 'ratio_p01'] },
  { title: 'Gradient norm', note: 'before clipping', names: ['grad_norm'] },
  { title: 'Explained variance', note: '1 is a perfect critic, below 0 is worse than a constant', names: ['explained_variance'] },
  { title: 'Parity', note: 'max |log-prob learner − sampler|; about 1e-6 in float32', names: ['parity_max_abs'] },
  { title: 'Parity alarms', note: 'updates so far', names: ['parity_alarms'] },
  { title: 'Advantages', note: 'before whitening', names: ['advantage_mean', 'advantage_std'] },
  { title: 'Turns', note: 'per episode', names: ['turns_mean'] },
  { title: 'Peak tokens', note: 'prompt + context + generated', names: ['peak_tokens_mean'] },
  { title: 'Invalid format', note: 'share of episodes', names: ['invalid_format_rate'] },
  {
    title: 'Failures', note: 'environment failures of the batch, tasks given up so far',
    names: ['environment_failures', 'quarantined', 'skipped_updates', 'masked_episodes'],
  },
  { title: 'Learner busy', note: 'share of the optimiser steps not spent on preparing data', names: ['learner_busy'] },
  { title: 'Tokens per second', note: 'sampled, and learnt from', names: ['rollout_tokens_per_s', 'learner_tokens_per_s'] },
  {
    title: 'Seconds', note: 'a whole update, and its parts; the wait for the disk adds up over the run',
    names: ['seconds', 'wait_seconds', 'learn_seconds', 'disk_wait_seconds'],
  },
  { title: 'Memory', note: 'resident bytes', names: ['rss_bytes'] },
  { title: 'Live tensors', note: 'after the update', names: ['live_tensors'] },
  { title: 'Staleness', note: 'versions', names: ['staleness_max', 'staleness_mean'] },
];

export function Training() {
  const { updates, series } = useStore().metrics;
  const named = (start: string): string[] => Object.keys(series).filter((n) => n.startsWith(start)).sort();
  const groups = [
    { title: 'Reward', note: 'mean of the batch, and its parts', names: named('reward_') },
    { title: 'Exact match', note: 'by number of objectives', names: named('em_') },
    ...GROUPS,
    { title: 'Discarded', note: 'tries so far, by cause', names: named('discarded_') },
    { title: 'Refused', note: 'turns so far, by cause', names: named('refused_') },
    { title: 'Ledger', note: 'tasks by state after the update', names: named('ledger_').filter((n) => n !== 'ledger_consumed') },
  ];
  const grouped = new Set(groups.flatMap((g) => g.names));
  // Every metric is shown: those that have no place above get a picture of their own.
  const rest = Object.keys(series)
    .filter((n) => !grouped.has(n) && n !== 'policy_version' && !n.startsWith('staleness_tokens.')).sort();
  if (updates.length === 0) return <p class="card quiet">No update is done yet; each adds a line to metrics.jsonl, which is drawn here.</p>;
  return (
    <section class="charts">
      {groups.filter((g) => g.names.some((n) => series[n])).map((g) => (
        <Chart key={g.title} title={g.title} note={g.note} x={updates}
          lines={g.names.filter((n) => series[n]).map((n) => ({ label: n, values: series[n] }))} />
      ))}
      {rest.map((n) => <Chart key={n} title={n} x={updates} lines={[{ label: n, values: series[n] }]} />)}
    </section>
  );
}
