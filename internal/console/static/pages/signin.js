import { h, replace } from '../lib/dom.js';
import { signIn } from '../lib/api.js';
import { trouble } from '../lib/ui.js';

export function signInPage(done) {
  const place = h('div');
  const token = h('input', { id: 'token', type: 'password', required: true, autocomplete: 'off', spellcheck: 'false', 'aria-describedby': 'token-hint' });
  const button = h('button.main', { type: 'submit' }, 'Sign in');
  const form = h('form', {
    onsubmit: async (e) => {
      e.preventDefault();
      button.disabled = true;
      try {
        const who = await signIn(token.value.trim());
        token.value = '';
        done(who);
      } catch (err) {
        replace(place, trouble(err));
        button.disabled = false;
        token.focus();
      }
    },
  },
  place,
  h('div.field', null, h('label', { for: 'token' }, 'Token'), token,
    h('p.hint', { id: 'token-hint' }, 'Of a local cluster: the content of .strongroom/admin.token. With single sign-on: run strongroom login, and use the token from its file.')),
  button);
  const page = h('main.signin', { id: 'main' },
    h('div.brand', null, h('img', { src: '/console/static/icon.svg', alt: '' }), h('h1', null, 'Strongroom')),
    h('div.panel', null, form),
    h('p.dim', null, 'The token stays in a cookie that no script can read, until you sign out or close the browser.'));
  queueMicrotask(() => token.focus());
  return page;
}
