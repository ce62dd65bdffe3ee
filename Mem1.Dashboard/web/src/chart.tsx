// Line charts over the updates. Keeps: series differ in dash as well as in colour; no chart is drawn for numbers that never came.
import { useEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { last, number } from './format';

// Okabe and Ito's palette: told apart by the colour-blind, on dark and on light.
export const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#8c8c8c'];
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3], [12, 4], [4, 2], [1, 2]];

export interface Line { label: string; values: (number | null)[] | undefined }

export function Chart({ title, note, x, lines, height = 170 }: {
  title: string; note?: string; x: number[]; lines: Line[]; height?: number;
}) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const shown = lines.filter((l) => l.values?.some((v) => v !== null && Number.isFinite(v)));
  const labels = shown.map((l) => l.label).join('\n');
  const [dark, setDark] = useState(() => matchMedia('(prefers-color-scheme: dark)').matches);

  useEffect(() => {
    const query = matchMedia('(prefers-color-scheme: dark)');
    const on = (): void => setDark(query.matches);
    query.addEventListener('change', on);
    return () => query.removeEventListener('change', on);
  }, []);

  const data = (): uPlot.AlignedData => [x, ...shown.map((l) => l.values as (number | null)[])] as uPlot.AlignedData;

  useEffect(() => {
    const element = box.current;
    if (!element || shown.length === 0) return;
    const ink = dark ? '#b8c0cc' : '#4a5260';
    const grid = { stroke: dark ? '#2c323c' : '#e6e9ee', width: 1 };
    const axis = { stroke: ink, grid, ticks: grid, font: '11px system-ui, sans-serif' };
    const made = new uPlot(
      {
        width: Math.max(200, element.clientWidth), height,
        scales: { x: { time: false } },
        legend: { show: false },
        cursor: { points: { size: 6 } },
        axes: [{ ...axis, size: 28 }, { ...axis, size: 66, values: (_: uPlot, ticks: number[]) => ticks.map((t) => number(t)) }],
        series: [
          { label: 'update' },
          ...shown.map((l, i) => ({
            label: l.label, stroke: COLOURS[i % COLOURS.length], width: 1.6, dash: DASHES[i % DASHES.length], spanGaps: false,
            points: { show: x.length < 40, size: 4 },
          })),
        ],
      },
      data(), element);
    plot.current = made;
    const resized = new ResizeObserver(() => made.setSize({ width: Math.max(200, element.clientWidth), height }));
    resized.observe(element);
    return () => {
      resized.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [labels, dark, height]);

  useEffect(() => plot.current?.setData(data()), [x, ...shown.map((l) => l.values)]);

  return (
    <figure class="chart">
      <figcaption>
        <strong>{title}</strong>{note ? <span class="quiet"> {note}</span> : null}
        <ul class="legend">
          {shown.map((l, i) => (
            <li key={l.label}>
              <svg width="22" height="8" aria-hidden="true">
                <line x1="0" y1="4" x2="22" y2="4" stroke={COLOURS[i % COLOURS.length]} stroke-width="2"
                  stroke-dasharray={DASHES[i % DASHES.length]!.join(' ')} />
              </svg>
              {l.label} <b>{number(last(l.values))}</b>
            </li>
          ))}
        </ul>
      </figcaption>
      {shown.length === 0 ? <p class="quiet">No numbers yet.</p>
        : <div ref={box} class="plot" role="img"
          aria-label={`${title} over ${x.length} updates; now ${shown.map((l) => `${l.label} ${number(last(l.values))}`).join(', ')}`} />}
    </figure>
  );
}
