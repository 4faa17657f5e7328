// The shell: who is signed in, the menu, and which page is shown. Pages are
// chosen by what follows the # in the address, which is never sent anywhere.
import { h, replace, say } from './lib/dom.js';
import { session, signOut, whenSignedOut } from './lib/api.js';
import { trouble } from './lib/ui.js';
import { signInPage } from './pages/signin.js';
import { overview } from './pages/overview.js';
import { keys } from './pages/keys.js';
import { secrets } from './pages/secrets.js';
import { access } from './pages/access.js';
import { audit } from './pages/audit.js';
import { cluster } from './pages/cluster.js';

const menu = [
  ['', 'Overview', overview], ['keys', 'Key health', keys], ['secrets', 'Secrets', secrets],
  ['access', 'Access', access], ['audit', 'Audit', audit], ['cluster', 'Cluster', cluster],
];

// idle is after how long without a key or a click the session ends here.
const idle = 15 * 60 * 1000;

const app = document.getElementById('app');
let main, timer, shown = 0;

function theme(next) {
  if (next) localStorage.setItem('theme', next);
  const chosen = localStorage.getItem('theme');
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
}

function dark() {
  return (document.documentElement.dataset.theme || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark';
}

function shell(who) {
  main = h('main', { id: 'main', tabindex: '-1' });
  replace(app, h('div.shell', null,
    h('header.side', null, h('div.stays', null,
      h('div.brand', null, h('img', { src: '/console/static/icon.svg', alt: '' }), 'Strongroom'),
      h('nav', { 'aria-label': 'Pages' }, h('ul', null, menu.map(([name, title]) => h('li', null, h('a', { href: '#/' + name, 'data-page': name }, title))))),
      h('div.who', null, h('span', null, who.principal, h('br'), h('span.dim', null, who.kind)),
        h('div.row', null,
          h('button', { type: 'button', onclick: () => theme(dark() ? 'light' : 'dark') }, 'Light or dark'),
          h('button', { type: 'button', onclick: signOut }, 'Sign out'))))),
    main));
  show();
}

// show is the page of the address.
async function show() {
  if (!main || !main.isConnected) return;
  const [name, ...rest] = location.hash.replace(/^#\/?/, '').split('/').map(decodeURIComponent);
  const entry = menu.find(([page]) => page === name) || menu[0];
  for (const a of document.querySelectorAll('nav a')) {
    if (a.dataset.page === entry[0]) a.setAttribute('aria-current', 'page');
    else a.removeAttribute('aria-current');
  }
  document.title = `${entry[1]} – Strongroom`;
  const mine = ++shown;
  const place = h('div');
  replace(main, place);
  try {
    const content = await entry[2](rest, () => show());
    if (mine === shown) replace(place, content);
  } catch (err) {
    if (mine === shown) replace(place, h('h1', { tabindex: '-1' }, entry[1]), trouble(err));
  }
  if (mine !== shown) return;
  const title = place.querySelector('h1');
  if (title) title.focus({ preventScroll: true });
  say(`${entry[1]} is shown`);
}

function signedOut() {
  clearTimeout(timer);
  main = null;
  document.title = 'Sign in – Strongroom';
  replace(app, signInPage(signedIn));
}

function signedIn(who) {
  awake();
  shell(who);
}

function awake() {
  clearTimeout(timer);
  timer = setTimeout(() => { if (main) signOut(); }, idle);
}

theme();
whenSignedOut(signedOut);
addEventListener('hashchange', show);
for (const event of ['keydown', 'pointerdown']) addEventListener(event, awake, { passive: true });
try {
  const who = await session();
  if (who) signedIn(who);
  else signedOut();
} catch (err) {
  replace(app, h('div.signin', null, trouble(err), h('button', { type: 'button', onclick: () => location.reload() }, 'Try again')));
}
