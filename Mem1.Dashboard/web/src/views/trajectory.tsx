// One episode: its tokens by kind, what the agent wrote into its state, what it forgot, and what it could see.
import { useEffect, useState } from 'preact/hooks';
import { Button } from '../commands';
import { diff } from '../diff';
import { number } from '../format';
import { Tile } from '../parts';
import { get, useStore } from '../store';
import type { Trajectory, Turn } from '../types';
import { ContextLength, MaskPicture } from './pictures';

type Paint = 'kind' | 'log_prob' | 'advantage' | 'value';

interface Token {
  text: string; kind: 'prompt' | 'state' | 'action' | 'information'; turn: number; loss: boolean; discarded: boolean;
  id?: number; logProb?: number; value?: number | null; advantage?: number; version?: number;
}

function chosenIndex(): number | null {
  const part = location.hash.split('/')[2];
  return part && /^\d+$/.test(part) ? Number(part) : null;
}

export function TrajectoryView() {
  const { trajectories, run } = useStore();
  const [index, setIndex] = useState(chosenIndex());
  const [trajectory, setTrajectory] = useState<Trajectory | null>(null);
  const [failure, setFailure] = useState('');
  const [paint, setPaint] = useState<Paint>('kind');
  useEffect(() => {
    const changed = (): void => setIndex(chosenIndex());
    addEventListener('hashchange', changed);
    return () => removeEventListener('hashchange', changed);
  }, []);
  // The newest, until somebody chooses; what is chosen stays while new ones arrive.
  const newest = trajectories[0]?.index ?? null;
  useEffect(() => {
    if (index === null && newest !== null) setIndex(newest);
  }, [index, newest]);
  useEffect(() => {
    if (index === null) return;
    let live = true;
    get<Trajectory>(`/api/trajectories/${index}`).then(
      (t) => { if (live) { setTrajectory(t); setFailure(''); } },
      (e: Error) => { if (live) { setTrajectory(null); setFailure(e.message); } });
    return () => void (live = false);
  }, [index, run?.instance]);

  if (trajectories.length === 0) {
    return (
      <p class="card quiet">No trajectory is recorded yet; checkpoint.sampled_trajectories says how many of an update are.</p>
    );
  }
  return (
    <>
      <form class="filters" onSubmit={(e) => e.preventDefault()}>
        <label>Episode <select value={String(index ?? '')} onChange={(e) => { location.hash = `#/trajectory/${e.currentTarget.value}`; }}>
          {trajectories.map((t) => (
            <option key={t.index} value={String(t.index)}>
              {`${t.replay ? 'played again after ' : ''}update ${t.update}: reward ${number(t.reward, 2)}, `
                + `${t.turns} turns, ${t.end} – ${t.episode_id}`}
            </option>
          ))}
        </select></label>
        <label>Paint by <select value={paint} onChange={(e) => setPaint(e.currentTarget.value as Paint)}>
          <option value="kind">segment kind</option><option value="log_prob">log-prob</option>
          <option value="advantage">advantage</option><option value="value">value</option>
        </select></label>
        {trajectory ? (
          <Button label="Play again" name="Play this episode again" of={{
            command: 'replay_episode', target: trajectory.episode_id, title: 'Play this episode again',
            text: `The task of ${trajectory.episode_id} is played again with the same seeds under the newest policy. `
              + 'It is not trained on, and appears in this list when it is played.',
          }} />
        ) : null}
      </form>
      {failure ? <p class="card warning">The trajectory could not be read ({failure}).</p> : null}
      {trajectory ? <Shown of={trajectory} paint={paint} /> : null}
    </>
  );
}

function Shown({ of, paint }: { of: Trajectory; paint: Paint }) {
  const [token, setToken] = useState<Token | null>(null);
  const hasTokens = of.turns.some((t) => t.generated_pieces);
  return (
    <>
      <section class="tiles">
        <Tile label="Reward" value={number(of.reward)} />
        <Tile label="End" value={of.end.replaceAll('_', ' ')} />
        <Tile label="Exact match" value={of.exact_match.map((m) => number(m)).join(' ')} note="per objective" />
        <Tile label="Turns" value={number(of.turns.length)} />
        <Tile label="Layout" value={of.layout ?? 'segments'} />
        <Tile label="Update" value={number(of.update)} />
      </section>
      <section class="charts">
        <ContextLength of={of} />
        <MaskPicture of={of} />
      </section>
      <ul class="legend keys">
        <li><i class="k-prompt" /> prompt</li><li><i class="k-state" /> internal state</li><li><i class="k-action" /> action</li>
        <li><i class="k-information" /> information</li>{hasTokens ? <li><i class="k-discarded" /> discarded after its turn</li> : null}
        {paint !== 'kind' ? <li>{paint.replace('_', '-')}: <i class="heat-low" /> low <i class="heat-high" /> high</li> : null}
      </ul>
      {!hasTokens ? (
        <p class="quiet">This record has no single tokens (it is of an older release), so its segments are shown as text.</p>
      ) : null}
      <details class="card" open>
        <summary>Prompt, {of.prompt_tokens} tokens</summary>
        <pre class="tokens k-prompt" onPointerEnter={() => setToken({
          text: of.prompt, kind: 'prompt', turn: 0, loss: false, discarded: false })}>{of.prompt}</pre>
      </details>
      {of.turns.map((turn, j) => <TurnCard key={j} of={of} turn={turn} j={j} paint={paint} show={setToken} />)}
      <section class="card" aria-label="Answer"><strong>Answer</strong><pre>{of.answer || '(none)'}</pre></section>
      <TokenCard of={token} />
    </>
  );
}

/** Pieces as they stand in the text: a tokenizer of words has no spaces in its tokens, but its text has them. */
function withSpaces(pieces: string[], text: string): string[] {
  let at = 0;
  const out: string[] = [];
  for (const piece of pieces) {
    let from = at;
    while (from < text.length && !text.startsWith(piece, from) && /\s/.test(text[from]!)) from++;
    if (!text.startsWith(piece, from)) return pieces; // characters over several tokens: shown as they are
    out.push(text.slice(at, from) + piece);
    at = from + piece.length;
  }
  return out;
}

function tokens(turn: Turn, j: number): Token[] {
  const pieces = turn.generated_pieces;
  if (!pieces) {
    return [
      { text: turn.internal_state, kind: 'state', turn: j, loss: true, discarded: false },
      { text: turn.action, kind: 'action', turn: j, loss: true, discarded: false },
    ];
  }
  const spaced = withSpaces(pieces, turn.internal_state + turn.action);
  return spaced.map((text, i) => ({
    text, turn: j, loss: true, kind: i < (turn.state_tokens ?? 0) ? 'state' : 'action', discarded: i < (turn.discarded_tokens ?? 0),
    id: turn.generated_ids?.[i], logProb: turn.log_probs?.[i], value: turn.values?.[i], advantage: turn.advantages?.[i],
    version: turn.policy_versions?.[i],
  }));
}

// Sixteen steps from one end to the other are as many as an eye tells apart; the style sheet holds them.
const STEPS = 16;

function heat(token: Token, paint: Paint, range: [number, number]): string {
  const value = paint === 'log_prob' ? token.logProb : paint === 'advantage' ? token.advantage : token.value;
  if (value === undefined || value === null) return '';
  const [low, high] = range;
  return `heat-${Math.max(0, Math.min(STEPS - 1, Math.floor((STEPS * (value - low)) / (high - low || 1))))}`;
}

function TurnCard({ of, turn, j, paint, show }: { of: Trajectory; turn: Turn; j: number; paint: Paint; show: (t: Token | null) => void }) {
  const list = tokens(turn, j);
  const [at, setAt] = useState(-1);
  const values = list.map((t) => (paint === 'log_prob' ? t.logProb : paint === 'advantage' ? t.advantage : t.value))
    .filter((v): v is number => v !== undefined && v !== null);
  const range: [number, number] = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
  const select = (i: number): void => {
    const n = Math.max(0, Math.min(list.length - 1, i));
    setAt(n);
    show(list[n] ?? null);
  };
  const key = (e: KeyboardEvent): void => {
    if (e.key !== 'ArrowRight' && e.key !== 'ArrowLeft' && e.key !== 'Home' && e.key !== 'End') return;
    e.preventDefault();
    select(e.key === 'Home' ? 0 : e.key === 'End' ? list.length - 1 : at + (e.key === 'ArrowRight' ? 1 : -1));
  };
  const kept = j > 0 ? of.turns[j - 1]! : null;
  const forgets = of.layout !== 'full';
  const gone = !forgets ? 0 : of.turns.slice(0, Math.max(0, j - 1)).reduce((n, t) => n + t.generated_tokens + t.observation_tokens, 0)
    + (kept?.discarded_tokens ?? 0);
  const paints = (t: Token): string => (paint === 'kind' ? '' : ` ${heat(t, paint, range)}`);
  return (
    <section class="card turn" aria-label={`Turn ${j}`}>
      <h3>Turn {j} <span class="quiet">
        {turn.context_tokens} tokens of context, {turn.generated_tokens} generated, {turn.observation_tokens} observed
        {turn.policy_version !== null && turn.policy_version !== undefined ? `, policy ${turn.policy_version}` : ''}
        {turn.mean_log_prob !== null && turn.mean_log_prob !== undefined ? `, mean log-prob ${number(turn.mean_log_prob)}` : ''}
      </span></h3>
      <pre class="tokens" tabIndex={0} role="group" aria-label={`Tokens of turn ${j}; arrow keys go from one to the next`} onKeyDown={key}>
        {list.map((t, i) => (
          <span key={i} class={`k-${t.kind}${t.discarded ? ' k-discarded' : ''}${paints(t)}${i === at ? ' at' : ''}`}
            onPointerEnter={() => show(t)} onClick={() => select(i)}>{t.text}</span>
        ))}
        {turn.information ? <span class="k-information" onPointerEnter={() => show({
          text: turn.information, kind: 'information', turn: j, loss: false, discarded: false })}>{turn.information}</span> : null}
      </pre>
      {kept ? (
        <details open>
          <summary>State against turn {j - 1}</summary>
          <pre class="diff">{diff(kept.internal_state, turn.internal_state).map((p, i) => {
            const Piece = p.kind === 'same' ? 'span' : p.kind === 'added' ? 'ins' : 'del';
            return <Piece key={i}>{p.text}</Piece>;
          })}</pre>
        </details>
      ) : null}
      <details>
        <summary>{gone === 0 ? 'Nothing was pruned yet' : `Pruned before this turn: ${gone} tokens`}</summary>
        {gone === 0 ? (
          <p class="quiet">The agent sees the prompt{j === 0 ? '' : forgets ? ' and all of the turn before' : ' and all turns before'}.</p>
        ) : (
          <>
            <p class="quiet">Out of the agent's sight in this turn, unless its state says it again:</p>
            {of.turns.slice(0, Math.max(0, j - 1)).map((t, i) => (
              <pre key={i} class="pruned">{`turn ${i}: ${t.internal_state}${t.action}${t.information}`}</pre>
            ))}
            {kept?.discarded_tokens ? (
              <pre class="pruned">{`turn ${j - 1}, the first ${kept.discarded_tokens} tokens of the response`}</pre>
            ) : null}
          </>
        )}
      </details>
    </section>
  );
}

function TokenCard({ of }: { of: Token | null }) {
  return (
    <aside class="token" aria-live="polite" aria-label="Token">
      {of === null ? <span class="quiet">Point at a token, or step through a turn with the arrow keys.</span> : (
        <dl>
          <dt>token</dt>
          <dd><code>{of.text.length > 60 ? `${of.text.slice(0, 60)}…` : of.text}</code>{of.id !== undefined ? ` (${of.id})` : ''}</dd>
          <dt>kind</dt>
          <dd>
            {of.kind === 'prompt' ? 'prompt, of every turn'
              : `${of.kind === 'state' ? 'internal state' : of.kind}, turn ${of.turn}${of.discarded ? ', discarded after it' : ''}`}
          </dd>
          <dt>log-prob</dt><dd>{number(of.logProb)}{of.logProb !== undefined ? ` (p ${number(Math.exp(of.logProb))})` : ''}</dd>
          <dt>value</dt><dd>{number(of.value)}</dd>
          <dt>advantage</dt><dd>{number(of.advantage)}</dd>
          <dt>version</dt><dd>{number(of.version)}</dd>
          <dt>loss</dt><dd>{of.loss ? 'trained on' : 'masked'}</dd>
        </dl>
      )}
    </aside>
  );
}
