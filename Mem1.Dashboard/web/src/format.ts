export function number(value: number | null | undefined, digits = 3): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return value.toLocaleString('en');
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(1);
  return value.toLocaleString('en', { maximumFractionDigits: size >= 100 ? 0 : digits });
}

export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined) return '–';
  return value >= 1 << 30 ? `${(value / (1 << 30)).toFixed(2)} GiB` : `${(value / (1 << 20)).toFixed(0)} MiB`;
}

export function duration(seconds: number): string {
  if (seconds < 1) return seconds === 0 ? '< 0.1 s' : `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

export function last(values: (number | null)[] | undefined): number | null {
  return values && values.length > 0 ? (values[values.length - 1] ?? null) : null;
}
