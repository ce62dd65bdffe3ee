import { useState } from 'preact/hooks';
import { COLOURS } from '../chart';
import { duration } from '../format';
import { NotLive, Table } from '../parts';
import { usePolled, useStore } from '../store';
import type { Episode, Span } from '../types';

// Versions take turns in these, so that neighbours differ.
const VERSIONS = [COLOURS[0]!, COLOURS[3]!, COLOURS[2]!, COLOURS[5]!];

function colour(span: Span): string {
  // Which version it is made with is known once it is done.
  if (span.kind === 'generating') return span.policy_version === null ? COLOURS[4]! : VERSIONS[span.policy_version % VERSIONS.length]!;
  return span.kind === 'environment' ? COLOURS[1]! : 'var(--line)';
}

export function Episodes() {
  const { state } = useStore();
  const [text, setText] = useState('');
  const query = text ? `?text=${encodeURIComponent(text)}` : '';
  const answer = usePolled<{ total: number; episodes: Episode[] }>(`/api/episodes${query}`, 1000);
  if (!state?.workers) return <NotLive what="what each episode did when" />;
  const episodes = answer?.episodes ?? [];
  const drawn = episodes.filter((e) => e.spans.length > 0).slice(0, 60);
  const longest = Math.max(1e-3, ...drawn.map((e) => Math.max(...e.spans.map((s) => s.ago_seconds)) - endOf(e)));
  const versions = [...new Set(drawn.flatMap((e) => e.spans.map((s) => s.policy_version)))].filter((v) => v !== null).sort((a, b) => a - b);
  return (
    <>
      <form class="filters" onSubmit={(e) => e.preventDefault()}>
        <label>Episode or worker <input type="search" value={text} onInput={(e) => setText(e.currentTarget.value)} /></label>
        <span class="quiet">
          {answer?.total ?? 0} running or ended lately. A lane begins with its episode; the widest is {duration(longest)}.
        </span>
      </form>
      <p class="quiet">
        <span class="legend inline">
          generating (a colour per policy version){' '}
          {versions.slice(-VERSIONS.length).map((v) => (
            <span key={v}><i style={{ background: VERSIONS[v % VERSIONS.length] }} /> {v} </span>
          ))}
          <i style={{ background: COLOURS[4] }} /> under way <i style={{ background: COLOURS[1] }} /> environment{' '}
          <i style={{ background: 'var(--line)' }} /> waiting for the learner
        </span>
      </p>
      <Table label="Episodes" head={['Episode', 'Turns', 'State', 'Turn', 'Try', 'Age', 'Worker']}>
        {episodes.slice(0, 120).map((e) => (
          <tr key={`${e.worker} ${e.id} ${e.attempt}`}>
            <th scope="row" class="long">{e.id}</th>
            <td class="lane">
              {e.spans.length > 0 ? <Lane of={e} longest={longest} /> : <span class="quiet">its worker tells nothing of it</span>}
            </td>
            <td>{e.state}</td><td>{e.turn ?? '–'}</td><td>{e.attempt}</td><td class="nowrap">{duration(e.age_seconds)}</td>
            <td class="long">{e.worker}</td>
          </tr>
        ))}
      </Table>
      {answer && episodes.length === 0 ? (
        <p class="card quiet">{text ? 'No episode or worker is called that.' : 'No episode runs now.'}</p>
      ) : null}
    </>
  );
}

function endOf(e: Episode): number {
  return Math.min(...e.spans.map((s) => s.ago_seconds - s.seconds));
}

function Lane({ of, longest }: { of: Episode; longest: number }) {
  const start = Math.max(...of.spans.map((s) => s.ago_seconds));
  const turns = Math.max(...of.spans.map((s) => s.turn)) + 1;
  const label = `${turns} turns in ${duration(start - endOf(of))}`;
  return (
    <svg viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label={label}>
      {of.spans.map((s, i) => (
        <rect key={i} x={(100 * (start - s.ago_seconds)) / longest} y={s.kind === 'waiting' ? 3 : 1} height={s.kind === 'waiting' ? 2 : 6}
          width={Math.max(0.15, (100 * s.seconds) / longest)} fill={colour(s)}>
          <title>
            {`turn ${s.turn}: ${s.kind} ${duration(s.seconds)}${s.policy_version !== null ? `, policy ${s.policy_version}` : ''}`}
          </title>
        </rect>
      ))}
    </svg>
  );
}
