// How things are written.
const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });
const steps = [[60, 'second', 1], [3600, 'minute', 60], [86400, 'hour', 3600], [30 * 86400, 'day', 86400], [365 * 86400, 'month', 30 * 86400], [Infinity, 'year', 365 * 86400]];

// ago writes a time as people say it; the exact one is in the title of when().
export function ago(text) {
  const seconds = (new Date(text) - Date.now()) / 1000;
  const [, unit, size] = steps.find(([below]) => Math.abs(seconds) < below);
  return relative.format(Math.round(seconds / size), unit);
}

export function exact(text) { return new Date(text).toISOString().replace('T', ' ').replace(/\.\d+Z$/, ' UTC'); }

export function count(n, one, many) { return `${n.toLocaleString('en')} ${n === 1 ? one : many}`; }

export function bytes(n) {
  if (n < 1024) return `${n} B`;
  const units = ['KiB', 'MiB', 'GiB', 'TiB'];
  let i = -1;
  do { n /= 1024; i++; } while (n >= 1024 && i < units.length - 1);
  return `${n.toFixed(1)} ${units[i]}`;
}

// quote writes a word for a shell.
export function quote(word) {
  return /^[A-Za-z0-9_./:@=-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

// encode and decode are base64 of UTF-8, as values are in the API.
export function encode(text) {
  let raw = '';
  for (const b of new TextEncoder().encode(text)) raw += String.fromCharCode(b);
  return btoa(raw);
}

// decode answers the text, or null if the value is none.
export function decode(base64) {
  const raw = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  try { return new TextDecoder('utf-8', { fatal: true }).decode(raw); } catch { return null; }
}
