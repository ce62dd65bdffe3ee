// Keeps: what is asked for is in the address, so that other views can point at it and it can be passed on.
import { useEffect, useState } from 'preact/hooks';
import { Sign, Table } from '../parts';
import { usePolled, useStore } from '../store';
import type { LogEvent } from '../types';

const SHOWN = 500;

const FILTERS = ['kind', 'actor', 'episode', 'text'] as const;

type Filter = Record<(typeof FILTERS)[number], string>;

const ALL: Filter = { kind: '', actor: '', episode: '', text: '' };

const LABELS = { actor: 'Actor', episode: 'Episode', text: 'Text, actor or episode' };

/** #/events/actor/NAME/kind/KIND and so on. */
function ofAddress(): Filter {
  const parts = location.hash.split('/').slice(2);
  const filter: Filter = { ...ALL };
  for (let i = 0; i + 1 < parts.length; i += 2) {
    const name = FILTERS.find((f) => f === parts[i]);
    if (!name) continue;
    try {
      filter[name] = decodeURIComponent(parts[i + 1]!);
    } catch {
      // No address of ours.
    }
  }
  return filter;
}

export function Events() {
  const { events } = useStore();
  const [filter, setFilter] = useState(ofAddress());
  useEffect(() => {
    const changed = (): void => setFilter(ofAddress());
    addEventListener('hashchange', changed);
    return () => removeEventListener('hashchange', changed);
  }, []);
  const set = (change: Partial<Filter>): void => {
    const next = { ...filter, ...change };
    setFilter(next);
    const parts = FILTERS.filter((f) => next[f]).map((f) => `/${f}/${encodeURIComponent(next[f])}`);
    history.replaceState(null, '', `#/events${parts.join('')}`);
  };
  const filtered = FILTERS.some((f) => filter[f]);
  // The server looks further back than the page does.
  const query = FILTERS.map((f) => `${f}=${encodeURIComponent(filter[f])}`).join('&');
  const found = usePolled<LogEvent[]>(filtered ? `/api/events?${query}` : null, 1000, events[events.length - 1]?.index);
  const list = filtered ? found ?? [] : events;
  const shown = [...list].reverse().slice(0, SHOWN);
  const kinds = [...new Set([...events.map((e) => e.kind), ...(filter.kind ? [filter.kind] : [])])].sort();
  return (
    <>
      <form class="filters" onSubmit={(e) => e.preventDefault()}>
        <label>Kind <select value={filter.kind} onChange={(e) => set({ kind: e.currentTarget.value })}>
          <option value="">all</option>{kinds.map((k) => <option key={k}>{k}</option>)}
        </select></label>
        {(['actor', 'episode', 'text'] as const).map((name) => (
          <label key={name}>{LABELS[name]}{' '}
            <input type="search" size={16} value={filter[name]} onInput={(e) => set({ [name]: e.currentTarget.value })} />
          </label>
        ))}
        <span class="quiet">{shown.length} shown</span>
        {filtered ? <button type="button" class="command" onClick={() => set(ALL)}>Show all</button> : null}
      </form>
      <Table label="Events" head={['Time', 'Level', 'Kind', 'What', 'Actor', 'Episode']}>
        {shown.map((e) => (
          <tr key={e.index}>
            <td class="nowrap">{new Date(e.time).toLocaleTimeString('en-GB')}</td>
            <td><Sign level={e.level} /></td><td>{e.kind}</td><td class="text">{e.text}</td>
            <td><Link to={e.actor} go={(actor) => set({ actor })} /></td>
            <td><Link to={e.episode} go={(episode) => set({ episode })} /></td>
          </tr>
        ))}
      </Table>
      {events.length === 0 ? <p class="card quiet">Nothing has happened yet.</p>
        : filtered && found && found.length === 0 ? <p class="card quiet">No event is like that.</p> : null}
    </>
  );
}

function Link({ to, go }: { to: string; go: (to: string) => void }) {
  return to ? <button type="button" class="link" onClick={() => go(to)}>{to}</button> : null;
}
