// The page's copy of the run. Keeps: filled from /api at the start and after every reconnection or loss, kept up by /events; the views
// only read it. Where looking takes a token it is kept in this page's memory alone and travels in a header alone.
import { useEffect, useState } from 'preact/hooks';
import type { Advisory, LogEvent, Run, State, TrajectorySummary } from './types';

const MAX_EVENTS = 1000;

export interface Metrics { updates: number[]; series: Record<string, (number | null)[]> }

/** Why there is nothing to see: looking takes a token that was not given, or not this one. */
export type Lock = 'missing' | 'wrong' | null;

export interface Store {
  lock: Lock;
  connected: boolean;
  everConnected: boolean;
  run: Run | null;
  state: State | null;
  metrics: Metrics;
  advisories: Advisory[];
  events: LogEvent[];
  trajectories: TrajectorySummary[];
  lost: number;
}

let store: Store = {
  lock: null, connected: false, everConnected: false, run: null, state: null, metrics: { updates: [], series: {} }, advisories: [],
  events: [], trajectories: [], lost: 0,
};
const listeners = new Set<() => void>();
let scheduled = false;

function change(part: Partial<Store>): void {
  store = { ...store, ...part };
  if (scheduled) return;
  scheduled = true;
  // One drawing for a burst of messages.
  requestAnimationFrame(() => {
    scheduled = false;
    for (const listener of listeners) listener();
  });
}

export function useStore(): Store {
  const [, redraw] = useState(0);
  useEffect(() => {
    const listener = (): void => redraw((n) => n + 1);
    listeners.add(listener);
    listener();
    return () => void listeners.delete(listener);
  }, []);
  return store;
}

let viewer = '';
let unlocked: (() => void) | null = null;

/** Takes the token for looking and tries again. */
export function unlock(token: string): void {
  viewer = token;
  unlocked?.();
}

function shown(): HeadersInit {
  return viewer === '' ? {} : { Authorization: `Bearer ${viewer}` };
}

export async function get<T>(path: string): Promise<T> {
  const answer = await fetch(path, { headers: shown() });
  if (!answer.ok) throw new Error(`${path} answered ${answer.status}`);
  return (await answer.json()) as T;
}

let loading: Promise<void> | null = null;
let again = false;

async function loadAll(): Promise<void> {
  const [run, state, metrics, advisories, events, trajectories] = await Promise.all([
    get<Run>('/api/run'), get<State>('/api/state'), get<Metrics>('/api/metrics'), get<Advisory[]>('/api/advisories'),
    get<LogEvent[]>('/api/events'), get<TrajectorySummary[]>('/api/trajectories'),
  ]);
  change({ run, state, metrics, advisories, events, trajectories });
}

/** Reads everything again; calls that come meanwhile make it once more afterwards. */
function load(): void {
  if (loading) {
    again = true;
    return;
  }
  loading = loadAll()
    .catch(() => change({ connected: false }))
    .finally(() => {
      loading = null;
      if (again) {
        again = false;
        load();
      }
    });
}

function addRow(row: Record<string, number | null>): void {
  const update = row.update ?? 0;
  const { updates, series } = store.metrics;
  // Done again after a resume: what came after it is not true any more.
  const keep = updates.findIndex((u) => u >= update);
  const n = keep < 0 ? updates.length : keep;
  const next: Metrics = { updates: [...updates.slice(0, n), update], series: {} };
  for (const name of new Set([...Object.keys(series), ...Object.keys(row)])) {
    if (name === 'update') continue;
    const before = series[name]?.slice(0, n) ?? new Array<number | null>(n).fill(null);
    next.series[name] = [...before, row[name] ?? null];
  }
  change({ metrics: next });
}

// By name of the event; the data is JSON.
const take: Record<string, (data: string) => void> = {
  hello: (data) => {
    change({ lock: null, connected: true, everConnected: true, state: (JSON.parse(data) as { state: State }).state });
    load();
  },
  state: (data) => change({ state: JSON.parse(data) as State }),
  metrics: (data) => addRow(JSON.parse(data) as Record<string, number | null>),
  trajectory: (data) => change({ trajectories: [JSON.parse(data) as TrajectorySummary, ...store.trajectories].slice(0, MAX_EVENTS) }),
  log: (data) => change({ events: [...store.events, JSON.parse(data) as LogEvent].slice(-MAX_EVENTS) }),
  restart: load,
  dropped: (data) => {
    change({ lost: (JSON.parse(data) as { count: number }).count });
    load();
  },
};

/** Reads one connection of /events to its end. An EventSource would do it, but cannot send a header. */
async function listen(body: ReadableStream<Uint8Array>): Promise<void> {
  const reader = body.getReader();
  const text = new TextDecoder();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    // Messages end with an empty line; each of the server's is a line "event: NAME" and one "data: JSON".
    const messages = (rest + text.decode(value, { stream: true })).split('\n\n');
    rest = messages.pop() ?? '';
    for (const message of messages) {
      const found = /^event: (.*)\ndata: (.*)$/.exec(message);
      if (found) take[found[1]!]?.(found[2]!);
    }
  }
}

/** Follows the run for as long as the page lives. */
export async function connect(): Promise<void> {
  for (;;) {
    try {
      const answer = await fetch('/events', { headers: shown() });
      if (answer.status === 401) {
        change({ connected: false, lock: viewer === '' ? 'missing' : 'wrong' });
        await new Promise<void>((resolve) => { unlocked = resolve; });
        continue;
      }
      if (answer.ok && answer.body) await listen(answer.body);
    } catch {
      // The server is away.
    }
    change({ connected: false });
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

// Advisories follow from everything else; the server works them out when asked.
setInterval(() => {
  if (!store.connected || document.hidden) return;
  get<Advisory[]>('/api/advisories').then((advisories) => change({ advisories }), () => undefined);
}, 2000);

/** Asks for something again and again while a view shows it (null asks for nothing), and at once whenever `urgent` changes. */
export function usePolled<T>(path: string | null, everyMs: number, urgent?: unknown): T | null {
  const [value, set] = useState<T | null>(null);
  useEffect(() => {
    if (path === null) {
      set(null);
      return undefined;
    }
    let live = true;
    let asked = 0;
    let shown = 0;
    const ask = (): void => {
      if (document.hidden) return;
      const turn = ++asked;
      // Answers may overtake one another; an older one never takes the place of a newer.
      get<T>(path).then((v) => {
        if (!live || turn < shown) return;
        shown = turn;
        set(v);
      }, () => undefined);
    };
    ask();
    const timer = setInterval(ask, everyMs);
    return () => {
      live = false;
      clearInterval(timer);
    };
  }, [path, everyMs, urgent]);
  return value;
}
