// Keeps: only the rows in sight are in the page, so ten thousand actors cost what fifty do.
import { useState } from 'preact/hooks';
import { Button } from '../commands';
import { duration, number } from '../format';
import { NotLive, Sign, Tile } from '../parts';
import { usePolled, useStore } from '../store';
import type { Actor, Level } from '../types';

const ROW = 34;
const ROWS = 18;

function level(state: string): Level {
  return state === 'failed' || state === 'unreachable' ? 'error' : state === 'restarted' || state === 'returned' ? 'warning' : 'info';
}

function mail(a: Actor): string {
  if (a.mailbox === null && a.oldest_seconds === null && a.messages_per_second === null) return '';
  const oldest = a.oldest_seconds === null ? '–' : a.oldest_seconds < 0.001 ? '0 ms' : duration(a.oldest_seconds);
  return `${number(a.mailbox)} waiting · ${oldest} · ${number(a.messages_per_second, 1)}/s`;
}

export function Actors() {
  const { state } = useStore();
  const [text, setText] = useState('');
  const [closed, setClosed] = useState<Record<string, boolean>>({});
  const [chosen, setChosen] = useState<string | null>(null);
  const [top, setTop] = useState(0);
  const answer = usePolled<{ total: number; actors: Actor[] }>(`/api/actors?text=${encodeURIComponent(text)}`, 1000);
  if (!state?.actors_by_state) return <NotLive what="the actors" />;
  const actors = answer?.actors ?? [];
  const roots = actors.filter((a) => !a.parent).length;
  const children = new Map<string, number>();
  for (const a of actors) children.set(a.parent, (children.get(a.parent) ?? 0) + 1);
  const rows = actors.filter((a) => !(a.parent && closed[a.parent]));
  const first = Math.max(0, Math.min(rows.length - ROWS, Math.floor(top / ROW) - 4));
  const seen = rows.slice(first, first + ROWS + 8);
  const detail = actors.find((a) => a.path === chosen);
  return (
    <>
      <section class="tiles">
        <Tile label="Actors" value={number(answer?.total)} note={`on ${roots} node${roots === 1 ? '' : 's'}`} />
        {Object.entries(state.actors_by_state).map(([name, count]) => <Tile key={name} label={name} value={number(count)} />)}
      </section>
      <form class="filters" onSubmit={(e) => e.preventDefault()}>
        <label>Name, state or episode <input type="search" value={text} onInput={(e) => setText(e.currentTarget.value)} /></label>
        <span class="quiet">{rows.length} shown</span>
      </form>
      <div class="tree" role="tree" aria-label="Supervision tree" tabIndex={0} onScroll={(e) => setTop(e.currentTarget.scrollTop)}>
        <div style={{ height: `${rows.length * ROW}px` }}>
          <div style={{ transform: `translateY(${first * ROW}px)` }}>
            {seen.map((a) => (
              <div key={a.path} role="treeitem" aria-level={a.parent ? 2 : 1} aria-expanded={children.get(a.path) ? !closed[a.path] : undefined}
                class={`actor ${level(a.state)}${a.parent ? ' child' : ''}`} data-state={a.state}>
                {children.get(a.path) ? (
                  <button type="button" aria-label={closed[a.path] ? 'Expand' : 'Collapse'}
                    onClick={() => setClosed({ ...closed, [a.path]: !closed[a.path] })}>{closed[a.path] ? '▸' : '▾'}</button>
                ) : null}
                <Sign level={level(a.state)} />
                <button type="button" class="link" onClick={() => setChosen(a.path)}>{a.parent ? a.path.slice(a.parent.length + 1) : a.path}</button>
                <span class="state">{a.state} {duration(a.state_seconds)}</span>
                <span class="quiet">{a.restarts > 0 ? `${a.restarts} restarts` : a.kind}</span>
                <span class="mail" title="messages waiting, how long the oldest has waited, messages handled per second">{mail(a)}</span>
                <span class="quiet long">{a.detail}</span>
              </div>
            ))}
          </div>
        </div>
      </div>
      {detail ? (
        <section class="card" aria-label="Actor">
          <strong>{detail.path}</strong>{' '}
          {['policy', 'uplink', 'episode'].includes(detail.kind) ? <Button label="Restart" name={`Restart actor ${detail.path}`} of={{ command: 'restart_actor', target: detail.path,
            title: `Restart ${detail.path}`, text: detail.kind === 'episode'
              ? "It is stopped and its task is played again from the beginning; that counts as one of the task's tries."
              : 'Its supervisor restarts it: what it was doing is done again. Too many restarts within a minute end the worker.' }} /> : null}
          <p>{detail.kind}, {detail.state} for {duration(detail.state_seconds)}, {duration(detail.age_seconds)} old, {detail.restarts} restarts.
            {' '}Mailbox: {detail.mailbox === null ? 'not known' : `${number(detail.mailbox)} waiting`}, oldest {detail.oldest_seconds === null ? 'not known' : duration(detail.oldest_seconds)},{' '}
            {detail.messages_per_second === null ? 'no' : number(detail.messages_per_second, 1)} messages/s.
            {detail.detail ? <> Plays <code>{detail.detail}</code>.</> : null}</p>
          {detail.last_failure ? <><p>Last failure and its causes:</p><pre>{detail.last_failure}</pre></> : <p class="quiet">It has not failed.</p>}
        </section>
      ) : null}
    </>
  );
}
