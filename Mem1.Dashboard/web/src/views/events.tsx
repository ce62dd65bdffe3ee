import { useState } from 'preact/hooks';
import { Sign, Table } from '../parts';
import { useStore } from '../store';

export function Events() {
  const { events } = useStore();
  const [kind, setKind] = useState('');
  const [text, setText] = useState('');
  const kinds = [...new Set(events.map((e) => e.kind))].sort();
  const wanted = text.toLowerCase();
  const shown = events.filter((e) => (!kind || e.kind === kind)
    && (!wanted || `${e.text}\n${e.actor}\n${e.episode}`.toLowerCase().includes(wanted))).reverse().slice(0, 500);
  return (
    <>
      <form class="filters" onSubmit={(e) => e.preventDefault()}>
        <label>Kind <select value={kind} onChange={(e) => setKind(e.currentTarget.value)}>
          <option value="">all</option>{kinds.map((k) => <option key={k}>{k}</option>)}
        </select></label>
        <label>Text, actor or episode <input type="search" value={text} onInput={(e) => setText(e.currentTarget.value)} /></label>
        <span class="quiet">{shown.length} of {events.length}</span>
      </form>
      <Table label="Events" head={['Time', '', 'Kind', 'What', 'Actor', 'Episode']}>
        {shown.map((e) => (
          <tr key={e.index}>
            <td class="nowrap">{new Date(e.time).toLocaleTimeString('en-GB')}</td>
            <td><Sign level={e.level} /></td><td>{e.kind}</td><td class="text">{e.text}</td><td>{e.actor}</td><td>{e.episode}</td>
          </tr>
        ))}
      </Table>
      {events.length === 0 ? <p class="card quiet">Nothing has happened yet.</p> : null}
    </>
  );
}
