// Keeps: only the rows in sight are in the page, so ten thousand actors cost what fifty do; what has failed stands first.
import { useRef, useState } from 'preact/hooks';
import { Button } from '../commands';
import { duration, number } from '../format';
import { NotLive, Sign, Tile } from '../parts';
import { usePolled, useStore } from '../store';
import type { Actor, Level } from '../types';

const ROW = 34;
const ROWS = 18;

// How long a failure that the supervisor has made good is shown as one.
const FRESH_SECONDS = 30;

function level(a: Actor): Level {
  if (a.state === 'failed' || a.state === 'unreachable') return 'error';
  if (a.state !== 'restarted') return a.state === 'returned' ? 'warning' : 'info';
  const asked = a.last_failure?.startsWith('RestartRequested') ?? false;
  return !asked && a.state_seconds < FRESH_SECONDS ? 'error' : 'warning';
}

function mail(a: Actor): string {
  if (a.mailbox === null && a.oldest_seconds === null && a.messages_per_second === null) return '';
  const oldest = a.oldest_seconds === null ? '–' : a.oldest_seconds < 0.001 ? '0 ms' : duration(a.oldest_seconds);
  return `${number(a.mailbox)} waiting · ${oldest} · ${number(a.messages_per_second, 1)}/s`;
}

/** How near to the top an actor belongs. */
function rank(a: Actor): number {
  return level(a) === 'error' ? 0 : a.state === 'restarted' ? 1 : 2;
}

/** Nodes that are gone, then those with a failure, and in each node what failed before its siblings; otherwise in the order they came. */
function failuresFirst(actors: Actor[]): Actor[] {
  const nodes = new Map<string, { root: Actor[]; children: [Actor[], Actor[], Actor[]] }>();
  for (const a of actors) {
    const name = a.parent || a.path;
    let node = nodes.get(name);
    if (!node) nodes.set(name, node = { root: [], children: [[], [], []] });
    (a.parent ? node.children[rank(a)]! : node.root).push(a);
  }
  const all = [...nodes.values()].map((n) => {
    const away = n.root.some((a) => level(a) === 'error');
    const first = n.children.findIndex((list) => list.length > 0);
    return { worst: away ? -1 : first < 0 ? 2 : first, rows: [...n.root, ...n.children.flat()] };
  });
  return all.sort((a, b) => a.worst - b.worst).flatMap((n) => n.rows);
}

export function Actors() {
  const { state } = useStore();
  const [text, setText] = useState('');
  const [closed, setClosed] = useState<Record<string, boolean>>({});
  const [chosen, setChosen] = useState<string | null>(null);
  const [at, setAt] = useState<string | null>(null);
  const [top, setTop] = useState(0);
  const tree = useRef<HTMLDivElement>(null);
  const by = state?.actors_by_state ?? {};
  // The state is told as soon as it changes; what failed is then asked for at once.
  const answer = usePolled<{ total: number; actors: Actor[] }>(
    `/api/actors${text ? `?text=${encodeURIComponent(text)}` : ''}`, 1000, `${by.failed ?? 0} ${by.restarted ?? 0} ${by.unreachable ?? 0}`);
  if (!state?.actors_by_state) return <NotLive what="the actors" />;
  const actors = failuresFirst(answer?.actors ?? []);
  const children = new Map<string, number>();
  for (const a of actors) children.set(a.parent, (children.get(a.parent) ?? 0) + 1);
  const roots = actors.filter((a) => !a.parent);
  const rows = actors.filter((a) => !(a.parent && closed[a.parent]));
  const first = Math.max(0, Math.min(rows.length - ROWS, Math.floor(top / ROW) - 4));
  const seen = rows.slice(first, first + ROWS + 8);
  const detail = actors.find((a) => a.path === chosen);

  const go = (index: number): void => {
    const n = Math.max(0, Math.min(rows.length - 1, index));
    const row = rows[n];
    if (!row || !tree.current) return;
    setAt(row.path);
    const [from, to] = [tree.current.scrollTop, tree.current.scrollTop + tree.current.clientHeight];
    if (n * ROW < from) tree.current.scrollTop = n * ROW;
    else if ((n + 1) * ROW > to) tree.current.scrollTop = (n + 1) * ROW - tree.current.clientHeight;
  };
  const key = (e: KeyboardEvent): void => {
    const here = rows.findIndex((a) => a.path === at);
    const row = rows[here];
    const moves: Record<string, number> = {
      ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: rows.length - 1, PageDown: here + ROWS, PageUp: here - ROWS,
    };
    if (e.key in moves) go(moves[e.key]!);
    else if (row && e.key === 'ArrowLeft') {
      if (row.parent) go(rows.findIndex((a) => a.path === row.parent));
      else setClosed({ ...closed, [row.path]: true });
    } else if (row && e.key === 'ArrowRight' && !row.parent) setClosed({ ...closed, [row.path]: false });
    else if (row && (e.key === 'Enter' || e.key === ' ')) setChosen(row.path);
    else return;
    e.preventDefault();
  };

  return (
    <>
      <section class="tiles">
        <Tile label="Actors" value={number(answer?.total)} note={`on ${roots.length} node${roots.length === 1 ? '' : 's'}`} />
        {Object.entries(by).map(([name, count]) => <Tile key={name} label={name} value={number(count)} />)}
      </section>
      <form class="filters" onSubmit={(e) => e.preventDefault()}>
        <label>Name, state or episode <input type="search" value={text} onInput={(e) => setText(e.currentTarget.value)} /></label>
        <button type="button" class="command" onClick={() => setClosed(Object.fromEntries(roots.map((a) => [a.path, true])))}>
          Collapse all
        </button>
        <button type="button" class="command" onClick={() => setClosed({})}>Expand all</button>
        <span class="quiet">{rows.length} shown; arrow keys and Enter work in the tree</span>
      </form>
      {answer && rows.length === 0 ? (
        <p class="card quiet">{text ? 'No actor is called that, or in that state.' : 'No actor is known yet.'}</p>
      ) : null}
      <div ref={tree} class="tree" role="tree" aria-label="Supervision tree" tabIndex={0} onKeyDown={key}
        aria-activedescendant={seen.some((a) => a.path === at) ? `actor ${at}`.replaceAll(' ', '_') : undefined}
        onScroll={(e) => setTop(e.currentTarget.scrollTop)}>
        <div style={{ height: `${rows.length * ROW}px` }}>
          <div style={{ transform: `translateY(${first * ROW}px)` }}>
            {seen.map((a) => (
              <div key={a.path} id={`actor ${a.path}`.replaceAll(' ', '_')} role="treeitem" aria-level={a.parent ? 2 : 1}
                aria-expanded={children.get(a.path) ? !closed[a.path] : undefined} aria-selected={a.path === chosen}
                class={`actor ${level(a)}${a.parent ? ' child' : ''}${a.path === at ? ' at' : ''}`} data-state={a.state} data-path={a.path}>
                {children.get(a.path) ? (
                  <button type="button" tabIndex={-1} aria-label={closed[a.path] ? 'Expand' : 'Collapse'}
                    onClick={() => setClosed({ ...closed, [a.path]: !closed[a.path] })}>{closed[a.path] ? '▸' : '▾'}</button>
                ) : null}
                <Sign level={level(a)} />
                <button type="button" class="link" tabIndex={-1} onClick={() => { setChosen(a.path); setAt(a.path); }}>
                  {a.parent ? a.path.slice(a.parent.length + 1) : a.path}
                </button>
                <span class="state">{a.state} {duration(a.state_seconds)}</span>
                <span class="quiet">{a.restarts > 0 ? `${a.restarts} restarts` : a.kind}</span>
                <span class="mail" title="messages waiting, how long the oldest has waited, messages handled per second">{mail(a)}</span>
                <span class="quiet long">{a.detail}</span>
              </div>
            ))}
          </div>
        </div>
      </div>
      {detail ? <Detail of={detail} /> : null}
    </>
  );
}

function Detail({ of }: { of: Actor }) {
  const restarts = of.kind === 'episode'
    ? "It is stopped and its task is played again from the beginning; that counts as one of the task's tries."
    : 'Its supervisor restarts it: what it was doing is done again. Too many restarts within a minute end the worker.';
  return (
    <section class="card" aria-label="Actor">
      <strong>{of.path}</strong>{' '}
      {['policy', 'uplink', 'episode'].includes(of.kind) ? (
        <Button label="Restart" name={`Restart actor ${of.path}`}
          of={{ command: 'restart_actor', target: of.path, title: `Restart ${of.path}`, text: restarts }} />
      ) : null}
      <p>
        {of.kind}, {of.state} for {duration(of.state_seconds)}, {duration(of.age_seconds)} old, {of.restarts} restarts. Mailbox:{' '}
        {of.mailbox === null ? 'not known' : `${number(of.mailbox)} waiting`}, oldest{' '}
        {of.oldest_seconds === null ? 'not known' : duration(of.oldest_seconds)},{' '}
        {of.messages_per_second === null ? 'no' : number(of.messages_per_second, 1)} messages/s.
        {of.detail ? <> Plays <code>{of.detail}</code>.</> : null}
        {' '}<a href={`#/events/actor/${encodeURIComponent(of.path)}`}>Its events</a>
      </p>
      {of.last_failure ? <><p>Last failure and its causes:</p><pre>{of.last_failure}</pre></> : <p class="quiet">It has not failed.</p>}
    </section>
  );
}
