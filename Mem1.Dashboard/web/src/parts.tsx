import type { ComponentChildren } from 'preact';
import type { Advisory, Level } from './types';

const SIGNS: Record<Level, string> = { info: 'i', warning: '!', error: '×' };

export function Sign({ level }: { level: Level }) {
  return <span class={`sign ${level}`} role="img" aria-label={level}>{SIGNS[level]}</span>;
}

export function Tile({ label, value, note }: { label: string; value: string; note?: string }) {
  return <div class="tile"><span class="quiet">{label}</span><b>{value}</b>{note ? <span class="quiet">{note}</span> : null}</div>;
}

export function Advisories({ list, updates }: { list: Advisory[]; updates: number }) {
  if (list.length === 0 && updates === 0) return <p class="card quiet">No update is done yet, so there is nothing to judge.</p>;
  if (list.length === 0)
    return <p class="card good"><span class="sign ok" role="img" aria-label="ok">✓</span> Nothing to worry about.</p>;
  return (
    <ul class="advisories">
      {list.map((a) => (
        <li key={a.code + a.text} class={`card ${a.level}`}>
          <Sign level={a.level} /> <span><strong>{a.text}</strong><br /><span class="quiet">{a.evidence}</span></span>
        </li>
      ))}
    </ul>
  );
}

export interface Part { label: string; value: number; colour: string; pattern?: boolean }

/** Parts of a whole as one bar with its numbers below. */
export function Stack({ parts, unit, title }: { parts: Part[]; unit: (value: number) => string; title: string }) {
  const total = parts.reduce((sum, p) => sum + p.value, 0);
  const label = `${title}: ${parts.map((p) => `${p.label} ${unit(p.value)}`).join(', ')}`;
  let at = 0;
  return (
    <figure class="stack">
      <svg viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label={label}>
        {parts.map((p) => {
          const width = total > 0 ? (100 * p.value) / total : 0;
          const x = at;
          at += width;
          return <rect key={p.label} x={x} y="0" width={width} height="6" fill={p.colour} />;
        })}
      </svg>
      <figcaption>
        <ul class="legend">
          {parts.map((p) => <li key={p.label}><i style={{ background: p.colour }} /> {p.label} <b>{unit(p.value)}</b></li>)}
        </ul>
      </figcaption>
    </figure>
  );
}

export function NotLive({ what }: { what: string }) {
  return (
    <p class="card quiet">
      A run's files do not hold {what}: they are seen while <code>mem1 train</code> or <code>mem1 learner</code> runs, at its own dashboard.
    </p>
  );
}

export function Table({ head, children, label }: { head: string[]; children: ComponentChildren; label: string }) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={label}>
      <table><thead><tr>{head.map((h) => <th key={h} scope="col">{h}</th>)}</tr></thead><tbody>{children}</tbody></table>
    </div>
  );
}
