// Pictures of a trajectory, to scale in tokens. Keeps: the mask is that of the layout the episode was trained in (docs/layouts.md).
import type { Trajectory } from '../types';

/** Length of the context per turn, against that of an agent that keeps everything. */
export function ContextLength({ of }: { of: Trajectory }) {
  let all = of.prompt_tokens;
  const bars = of.turns.map((t) => {
    const full = all + t.generated_tokens;
    all = full + t.observation_tokens;
    return { full, kept: of.prompt_tokens + t.context_tokens + t.generated_tokens };
  });
  const most = Math.max(1, ...bars.map((b) => Math.max(b.full, b.kept)));
  const peak = Math.max(...bars.map((b) => b.kept), 0);
  const fullPeak = Math.max(...bars.map((b) => b.full), 0);
  const height = (tokens: number): number => (60 * tokens) / most;
  return (
    <figure class="chart">
      <figcaption>
        <strong>Context length</strong>{' '}
        <span class="quiet">tokens at the end of each turn; peak {peak} against {fullPeak} with everything kept</span>
      </figcaption>
      <svg viewBox={`0 0 ${Math.max(4, bars.length) * 10} 60`} class="picture" preserveAspectRatio="none" role="img"
        aria-label={`Peak context ${peak} tokens; a full-context agent would have had ${fullPeak}`}>
        {bars.map((b, j) => (
          <g key={j}>
            <rect x={j * 10 + 1} y={60 - height(b.full)} width="8" height={height(b.full)} class="full">
              <title>{`turn ${j}: ${b.full} with everything kept`}</title>
            </rect>
            <rect x={j * 10 + 2.5} y={60 - height(b.kept)} width="5" height={height(b.kept)} class="kept">
              <title>{`turn ${j}: ${b.kept}`}</title>
            </rect>
          </g>
        ))}
      </svg>
      <ul class="legend"><li><i class="kept" /> this agent</li><li><i class="full" /> full context</li></ul>
    </figure>
  );
}

interface Block { from: number; copied: number; generated: number; length: number; discarded: number; state: number }

const SEES: Record<string, string> = {
  segments: 'Every turn sees the prompt and its own row, which begins with a copy of what is kept of the turn before',
  carry: 'Every turn sees the prompt, what is kept of the turn before, and itself',
  paper: 'What is generated sees the prompt, action and information of the turn before, and its own turn; information sees itself alone',
  full: 'Every token sees all before it',
};

/** Which token (row) sees which (column), in the order of the layout it was trained in. */
export function MaskPicture({ of }: { of: Trajectory }) {
  const layout = of.layout ?? 'segments';
  const copies = layout === 'segments';
  const q = of.prompt_tokens;
  let at = q;
  const blocks = of.turns.map((t): Block => {
    const copied = copies ? t.context_tokens : 0;
    const length = copied + t.generated_tokens + (copies ? 0 : t.observation_tokens);
    const block = {
      from: at, copied, length, generated: t.generated_tokens, discarded: t.discarded_tokens ?? 0, state: t.state_tokens ?? 0,
    };
    at += length;
    return block;
  });
  const n = Math.max(1, at);
  return (
    <figure class="chart">
      <figcaption>
        <strong>Attention mask</strong> <span class="quiet">{layout} layout, {n} tokens; a row sees what is filled</span>
      </figcaption>
      <svg viewBox={`0 0 ${n} ${n}`} class="picture mask" role="img" aria-label={SEES[layout] ?? SEES.segments}>
        <rect width={n} height={n} class="unseen" />
        <polygon points={`0,0 0,${q} ${q},${q}`} class="f-prompt" />
        {blocks.map((b, j) => <TurnMask key={j} of={b} before={blocks[j - 1]} j={j} q={q} layout={layout} />)}
      </svg>
      <ul class="legend">
        <li><i class="f-prompt" /> prompt</li>
        {copies ? <li><i class="f-copy" /> the copy itself</li> : null}
        <li><i class="f-information" /> {copies ? 'kept context' : layout === 'full' ? 'all turns before' : 'kept of the turn before'}</li>
        <li><i class="f-state" /> own turn</li>
      </ul>
    </figure>
  );
}

/** The rows of one turn. */
function TurnMask({ of: b, before, j, q, layout }: { of: Block; before: Block | undefined; j: number; q: number; layout: string }) {
  const to = b.from + b.length;
  const triangle = (from: number, end: number): string => `${from},${from} ${from},${end} ${end},${end}`;
  // In the paper's rule information is blind to all but itself.
  const sighted = layout === 'paper' ? b.generated : b.length;
  const kept = layout === 'full' ? q : !before || layout === 'segments' ? null
    : before.from + (layout === 'paper' ? before.state : before.discarded);
  return (
    <g>
      <rect x="0" y={b.from} width={q} height={sighted} class="f-prompt"><title>{`turn ${j} sees the prompt`}</title></rect>
      {kept !== null && b.from > kept ? (
        <rect x={kept} y={b.from} width={b.from - kept} height={sighted} class="f-information">
          <title>{layout === 'full' ? `turn ${j} sees all before it` : `turn ${j} sees what is kept of turn ${j - 1}`}</title>
        </rect>
      ) : null}
      <polygon points={triangle(b.from, b.from + sighted)} class="f-state"><title>{`turn ${j} sees itself`}</title></polygon>
      {sighted < b.length ? (
        <polygon points={triangle(b.from + sighted, to)} class="f-state"><title>{`information of turn ${j} sees itself`}</title></polygon>
      ) : null}
      {b.copied > 0 ? (
        <>
          <polygon points={triangle(b.from, b.from + b.copied)} class="f-copy">
            <title>{`turn ${j}: copy of the kept context, no loss`}</title>
          </polygon>
          <rect x={b.from} y={b.from + b.copied} width={b.copied} height={b.length - b.copied} class="f-information">
            <title>{`turn ${j} sees the copied context`}</title>
          </rect>
        </>
      ) : null}
    </g>
  );
}
