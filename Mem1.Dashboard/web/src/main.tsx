import { render } from 'preact';
import { useEffect, useLayoutEffect, useState } from 'preact/hooks';
import { connect, unlock, useStore } from './store';
import { CommandDialog } from './commands';
import { duration } from './format';
import { Overview } from './views/overview';
import { Training } from './views/training';
import { TrajectoryView } from './views/trajectory';
import { Episodes } from './views/episodes';
import { Workers } from './views/workers';
import { Actors } from './views/actors';
import { Staleness } from './views/staleness';
import { Events } from './views/events';
import './style.css';

const VIEWS = [
  ['overview', 'Overview', Overview], ['training', 'Training', Training], ['trajectory', 'Trajectory', TrajectoryView],
  ['episodes', 'Episodes', Episodes], ['workers', 'Workers', Workers], ['actors', 'Actors', Actors],
  ['ledger', 'Staleness & ledger', Staleness], ['events', 'Events', Events],
] as const;

function current(): string {
  return location.hash.replace(/^#\/?/, '').split('/')[0] || 'overview';
}

/** Asks for the token where looking takes one. */
function Locked({ wrong }: { wrong: boolean }) {
  const [typed, setTyped] = useState('');
  return (
    <form class="card" aria-label="Token" onSubmit={(e) => { e.preventDefault(); unlock(typed.trim()); }}>
      <h3>Looking at this run takes a token</h3>
      <label>Viewers' token <input type="password" autocomplete="off" required autofocus value={typed}
        onInput={(e) => setTyped(e.currentTarget.value)} /></label>{' '}
      <button type="submit">Look</button>
      <p role="alert">{wrong ? 'That is not the viewers\u2019 token.' : ''}</p>
      <p class="quiet">It is kept in this page until it is closed. Commands take another token.</p>
    </form>
  );
}

function App() {
  const { run, state, connected, everConnected, lost, lock } = useStore();
  const [view, setView] = useState(current());
  // Before the page is painted: a key that is pressed as soon as there is something to see must not be lost.
  useLayoutEffect(() => {
    const changed = (): void => setView(current());
    const key = (e: KeyboardEvent): void => {
      if (e.ctrlKey || e.metaKey || e.altKey || (e.target as HTMLElement).closest?.('input,select,textarea,dialog')) return;
      const chosen = VIEWS[Number(e.key) - 1];
      if (chosen) location.hash = `#/${chosen[0]}`;
    };
    addEventListener('hashchange', changed);
    addEventListener('keydown', key);
    return () => {
      removeEventListener('hashchange', changed);
      removeEventListener('keydown', key);
    };
  }, []);
  const [, label, View] = VIEWS.find((v) => v[0] === view) ?? VIEWS[0];
  useEffect(() => {
    document.title = `${label}${run ? ` – ${run.name}` : ''} – Mem1`;
  }, [label, run]);
  const away = state?.unreachable_since;
  const source = { live: 'live', folder: 'from its files', demo: 'recorded' }[state?.source ?? 'folder'];
  const since = state?.source === 'live' ? (Date.now() - Date.parse(state.phase_since)) / 1000 : null;
  const doing = [source, state?.phase, state?.source === 'live' ? state.detail : ''].filter(Boolean).join(' · ');
  return (
    <>
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); document.getElementById('main')?.focus(); }}>Skip to content</a>
      <header>
        <h1><img src="/icon.svg" alt="" width="20" height="20" /> Mem1 <span class="run">{run?.name ?? '…'}</span></h1>
        <p class="status" role="status">
          <span class={connected && !away ? 'dot ok' : 'dot bad'} aria-hidden="true" />
          {connected && away ? `Learner not reachable since ${new Date(away).toLocaleTimeString('en-GB')}; what is shown is from before`
            : connected ? doing
            : lock ? 'Locked'
            : everConnected ? 'Connection lost; trying again …' : 'Connecting …'}
          {state?.paused ? <b> · paused</b> : null}
          {since !== null && connected && !away ? <span class="quiet"> · {duration(since)}</span> : null}
          {lost > 0 ? <span class="quiet"> · {lost} messages dropped, state read again</span> : null}
        </p>
      </header>
      <nav aria-label="Views">
        {VIEWS.map(([id, name], i) => (
          <a key={id} href={`#/${id}`} aria-current={id === view ? 'page' : undefined} title={`Key ${i + 1}`}>{name}</a>
        ))}
      </nav>
      <main id="main" tabIndex={-1}><h2 class="hidden">{label}</h2>{lock ? <Locked wrong={lock === 'wrong'} /> : <View />}</main>
      <CommandDialog />
    </>
  );
}

render(<App />, document.getElementById('app')!);
void connect();
