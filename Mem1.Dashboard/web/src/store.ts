// The page's copy of the run. Keeps: filled from /api at the start and after every reconnection or loss, kept up by /events; the views
// only read it.
import { useEffect, useState } from 'preact/hooks';
import type { Advisory, LogEvent, Run, State, TrajectorySummary } from './types';

const MAX_EVENTS = 1000;

export interface Metrics { updates: number[]; series: Record<string, (number | null)[]> }

export interface Store {
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
  connected: false, everConnected: false, run: null, state: null, metrics: { updates: [], series: {} }, advisories: [], events: [],
  trajectories: [], lost: 0,
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

export async function get<T>(path: string): Promise<T> {
  const answer = await fetch(path);
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

export function connect(): void {
  const source = new EventSource('/events');
  const on = <T>(name: string, take: (value: T) => void): void =>
    source.addEventListener(name, (e) => take(JSON.parse((e as MessageEvent<string>).data) as T));
  source.onerror = () => {
    change({ connected: false });
    // A browser gives up when it was answered an error, as while the server starts; otherwise it tries again by itself.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 1000);
  };
  on<{ state: State }>('hello', ({ state }) => {
    change({ connected: true, everConnected: true, state });
    load();
  });
  on<State>('state', (state) => change({ state }));
  on<Record<string, number | null>>('metrics', addRow);
  on<TrajectorySummary>('trajectory', (t) => change({ trajectories: [t, ...store.trajectories].slice(0, MAX_EVENTS) }));
  on<LogEvent>('log', (e) => change({ events: [...store.events, e].slice(-MAX_EVENTS) }));
  on<unknown>('restart', load);
  on<{ count: number }>('dropped', ({ count }) => {
    change({ lost: count });
    load();
  });
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
