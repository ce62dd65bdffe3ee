// Pictures of a trajectory, to scale in tokens.
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
  return (
    <figure class="chart">
      <figcaption><strong>Context length</strong> <span class="quiet">tokens at the end of each turn; peak {peak} against {fullPeak} with everything kept</span></figcaption>
      <svg viewBox={`0 0 ${Math.max(4, bars.length) * 10} 60`} class="picture" preserveAspectRatio="none" role="img"
        aria-label={`Peak context ${peak} tokens; a full-context agent would have had ${fullPeak}`}>
        {bars.map((b, j) => (
          <g key={j}>
            <rect x={j * 10 + 1} y={60 - (60 * b.full) / most} width="8" height={(60 * b.full) / most} class="full"><title>{`turn ${j}: ${b.full} with everything kept`}</title></rect>
            <rect x={j * 10 + 2.5} y={60 - (60 * b.kept) / most} width="5" height={(60 * b.kept) / most} class="kept"><title>{`turn ${j}: ${b.kept}`}</title></rect>
          </g>
        ))}
      </svg>
      <ul class="legend"><li><i class="kept" /> this agent</li><li><i class="full" /> full context</li></ul>
    </figure>
  );
}

/** Which token (row) sees which (column), in the order of the layout it was trained in. */
export function MaskPicture({ of }: { of: Trajectory }) {
  const copies = (of.layout ?? 'segments') === 'segments';
  const q = of.prompt_tokens;
  let at = q;
  const blocks = of.turns.map((t) => {
    const copied = copies ? t.context_tokens : 0;
    const length = copied + t.generated_tokens + (copies ? 0 : t.observation_tokens);
    const block = { from: at, copied, length, discarded: t.discarded_tokens ?? 0 };
    at += length;
    return block;
  });
  const n = Math.max(1, at);
  return (
    <figure class="chart">
      <figcaption><strong>Attention mask</strong> <span class="quiet">{of.layout ?? 'segments'} layout, {n} tokens; a row sees what is filled</span></figcaption>
      <svg viewBox={`0 0 ${n} ${n}`} class="picture mask" role="img"
        aria-label={`Every turn sees the prompt and ${copies ? 'its own row, which begins with a copy of what is kept of the turn before' : 'the turn before and itself'}`}>
        <rect width={n} height={n} class="unseen" />
        <polygon points={`0,0 0,${q} ${q},${q}`} class="f-prompt" />
        {blocks.map((b, j) => {
          const to = b.from + b.length;
          const before = j > 0 ? blocks[j - 1]! : null;
          return (
            <g key={j}>
              <rect x="0" y={b.from} width={q} height={b.length} class="f-prompt"><title>{`turn ${j} sees the prompt`}</title></rect>
              {!copies && before ? <rect x={before.from + before.discarded} y={b.from} width={Math.max(0, before.length - before.discarded)} height={b.length} class="f-information">
                <title>{`turn ${j} sees what is kept of turn ${j - 1}`}</title></rect> : null}
              <polygon points={`${b.from},${b.from} ${b.from},${to} ${to},${to}`} class="f-state"><title>{`turn ${j} sees itself`}</title></polygon>
              {b.copied > 0 ? <polygon points={`${b.from},${b.from} ${b.from},${b.from + b.copied} ${b.from + b.copied},${b.from + b.copied}`} class="f-copy">
                <title>{`turn ${j}: copy of the kept context, no loss`}</title></polygon> : null}
              {b.copied > 0 ? <rect x={b.from} y={b.from + b.copied} width={b.copied} height={b.length - b.copied} class="f-information">
                <title>{`turn ${j} sees the copied context`}</title></rect> : null}
            </g>
          );
        })}
      </svg>
      <ul class="legend"><li><i class="f-prompt" /> prompt</li>
        {copies ? <><li><i class="f-copy" /> the copy itself</li><li><i class="f-information" /> kept context</li></> : <li><i class="f-information" /> turn before</li>}
        <li><i class="f-state" /> own turn</li></ul>
    </figure>
  );
}
