// Commands. Keeps: nothing is sent before the user has read what it does and confirmed it; the token is kept in this page's memory alone
// and travels in a header alone; the answer is shown in the words of the server.
import { useEffect, useRef, useState } from 'preact/hooks';
import { useStore } from './store';

export interface Command { command: string; target?: string; value?: number | null }

interface Ask extends Command { title: string; text: string; number?: { label: string; initial: number | null } }

interface Result { outcome: string; text: string }

let token = '';
let ask: ((wanted: Ask) => void) | null = null;

/** Whether this dashboard takes commands. */
export function useCommands(): boolean {
  const { run, state } = useStore();
  return (run?.commands?.length ?? 0) > 0 && !state?.unreachable_since;
}

export function Button({ label, of, name }: { label: string; of: Ask; name?: string }) {
  if (!useCommands()) return null;
  return <button type="button" class="command" aria-label={name} onClick={() => ask?.(of)}>{label}</button>;
}

async function send(command: Command): Promise<Result & { status: number }> {
  const answer = await fetch('/api/commands', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${token}` },
    body: JSON.stringify(command),
  });
  const result = (await answer.json()) as Result;
  return { ...result, status: answer.status };
}

/** The one dialog: what will happen, the token when it is not known yet, and what became of it. */
export function CommandDialog() {
  const dialog = useRef<HTMLDialogElement>(null);
  const [wanted, setWanted] = useState<Ask | null>(null);
  const [value, setValue] = useState('');
  const [needsToken, setNeedsToken] = useState(true);
  const [typed, setTyped] = useState('');
  const [busy, setBusy] = useState(false);
  const [result, setResult] = useState<Result | null>(null);
  useEffect(() => {
    ask = (next) => {
      setWanted(next);
      setResult(null);
      setNeedsToken(token === '');
      setTyped('');
      setValue(next.number?.initial?.toString() ?? '');
    };
    return () => { ask = null; };
  }, []);
  // Once its content is there: the first field has the focus then.
  useEffect(() => {
    if (wanted && !dialog.current?.open) dialog.current?.showModal();
  }, [wanted]);
  const submit = async (e: Event): Promise<void> => {
    e.preventDefault();
    if (!wanted || busy) return;
    if (needsToken) token = typed.trim();
    setBusy(true);
    try {
      const { command, target } = wanted;
      const given = wanted.number ? (value === '' ? null : Number(value)) : undefined;
      const done = await send({ command, target, value: given });
      if (done.status === 401) token = '';
      setNeedsToken(token === '');
      setResult(done);
    } catch {
      setResult({ outcome: 'failed', text: 'The server did not answer.' });
    } finally {
      setBusy(false);
    }
  };
  const over = result !== null && result.outcome !== 'denied';
  return (
    <dialog ref={dialog} aria-labelledby="command-title" onClose={() => setWanted(null)}>
      {wanted ? (
        <form onSubmit={(e) => void submit(e)}>
          <h3 id="command-title">{wanted.title}</h3>
          <p class="long-text">{wanted.text}</p>
          {wanted.number && !over ? (
            <label>{wanted.number.label} <input type="number" min={1} max={1000000} step={1} value={value}
              onInput={(e) => setValue(e.currentTarget.value)} /></label>
          ) : null}
          {needsToken && !over ? (
            <label>Token{' '}
              <input type="password" autocomplete="off" required value={typed} onInput={(e) => setTyped(e.currentTarget.value)} />
              <span class="quiet">The run's terminal says where it is; for this page it is kept until it is closed.</span></label>
          ) : null}
          <p role="alert" class={result ? `result ${result.outcome}` : ''}>{result ? `${result.outcome}: ${result.text}` : ''}</p>
          <p class="buttons">
            {over ? null : <button type="submit" disabled={busy}>{busy ? 'Sending …' : 'Confirm'}</button>}
            <button type="button" onClick={() => dialog.current?.close()}>{over ? 'Close' : 'Cancel'}</button>
          </p>
        </form>
      ) : null}
    </dialog>
  );
}

const RESUME: Ask = { command: 'resume', title: 'Resume the run', text: 'Tasks are handed out and updates begin again.' };

const PAUSE: Ask = {
  command: 'pause', title: 'Pause the run',
  text: 'Episodes and the update under way are finished; then no task is handed out and no update begins until the run is resumed.',
};

const CHECKPOINT: Ask = {
  command: 'checkpoint', title: 'Save a checkpoint now',
  text: 'It is saved as soon as no update is under way, with the episodes played so far. The oldest checkpoint may make room for it.',
};

const CONCURRENCY: Ask = {
  command: 'set_concurrency', title: 'Set concurrency',
  text: 'How many episodes are played at once over all workers; empty for as many as the workers take. '
    + 'Episodes under way go on. It is kept with the run, also when the run is stopped and resumed.',
};

/** What concerns the whole run. */
export function RunCommands() {
  const { state } = useStore();
  if (!useCommands() || !state) return null;
  const limit = state.concurrency_limit;
  return (
    <section class="card commands" aria-label="Commands">
      <strong>Commands</strong>
      {state.paused ? <Button label="Resume" of={RESUME} /> : <Button label="Pause" of={PAUSE} />}
      <Button label="Checkpoint now" of={CHECKPOINT} />
      <Button label="Set concurrency" of={{ ...CONCURRENCY, number: { label: 'Episodes at once', initial: limit } }} />
      <span class="quiet">
        {state.paused ? 'paused; ' : ''}
        {limit === null ? 'as many episodes at once as the workers take' : `at most ${limit} episodes at once`}
      </span>
    </section>
  );
}
