// Requests to the node that served this page. The token is in a cookie that
// no script can read; csrf is what shows that a request is ours.
let csrf = '';
let onSignedOut = () => {};

export function whenSignedOut(f) { onSignedOut = f; }

// Failure is an error of the API: code, message and what it adds.
export class Failure extends Error {
  constructor(body, status) {
    const e = body && body.error ? body.error : {};
    super(e.message || `the server answered ${status}`);
    this.code = e.code || 'Unreachable';
    this.requestId = e.requestId || '';
    this.details = e.details || {};
    this.status = status;
  }
}

async function send(path, method, body) {
  let response;
  try {
    response = await fetch(path, {
      method, cache: 'no-store', credentials: 'same-origin', redirect: 'error',
      headers: { ...(body === undefined ? {} : { 'Content-Type': 'application/json' }), ...(csrf ? { 'Strongroom-Csrf': csrf } : {}) },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Failure({ error: { code: 'Unreachable', message: 'This node does not answer. Try again, or open the console of another node.' } }, 0);
  }
  const text = await response.text();
  let data = null;
  try { data = text ? JSON.parse(text) : {}; } catch { /* an answer that is not ours: see status */ }
  if (!response.ok) throw new Failure(data, response.status);
  return { data, headers: response.headers };
}

// session answers who is signed in, null if nobody is.
export async function session() {
  try {
    return keep(await send('/console/session', 'GET'));
  } catch (err) {
    if (err.status === 401) return null;
    throw err;
  }
}

export async function signIn(token) { return keep(await send('/console/session', 'POST', { token })); }

function keep({ data, headers }) {
  csrf = headers.get('Strongroom-Csrf') || '';
  return data;
}

export async function signOut() {
  try { await send('/console/session', 'DELETE'); } finally { csrf = ''; onSignedOut(); }
}

// call does one operation, such as call('kms/listKeys', {}).
export async function call(operation, request = {}) {
  try {
    return (await send('/console/api/' + operation, 'POST', request)).data;
  } catch (err) {
    if (err.status === 401) onSignedOut();
    throw err;
  }
}

// pages goes through a list to its end, or until it has most entries.
export async function pages(operation, request, field, most = 1000) {
  const out = [];
  let cursor;
  do {
    const page = await call(operation, { ...request, ...(cursor ? { cursor } : {}) });
    out.push(...(page[field] || []));
    cursor = page.nextCursor;
  } while (cursor && out.length < most);
  return { entries: out.slice(0, most), more: Boolean(cursor) || out.length > most };
}

// token makes a retry of a write safe.
export function clientToken() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, '0')).join('');
}
