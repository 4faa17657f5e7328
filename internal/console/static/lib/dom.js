// Elements are made here and nowhere else. Text goes in as text nodes: nothing
// that a name, a tag, a description or an error holds can become markup.

// h makes an element. Attributes that begin with "on" are listeners; null and
// false leave an attribute out; children are elements, texts, or lists of both.
export function h(tag, attributes, ...children) {
  const [name, ...classes] = tag.split('.');
  const el = document.createElement(name || 'div');
  if (classes.length) el.className = classes.join(' ');
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith('on')) el.addEventListener(key.slice(2), value);
    else if (key === 'value') el.value = value;
    else el.setAttribute(key, value === true ? '' : String(value));
  }
  el.append(...nodes(children));
  return el;
}

function nodes(children) {
  return children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false)
    .map((c) => (c instanceof Node ? c : document.createTextNode(String(c))));
}

// replace puts children in the place of all that el has.
export function replace(el, ...children) { el.replaceChildren(...nodes(children)); }

// say tells people who do not see the page what has changed.
export function say(text) { document.getElementById('live').textContent = text; }
