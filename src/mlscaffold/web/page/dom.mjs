// Elements of the page. Text is only ever set as text, never as HTML.

export const byId = (id) => document.getElementById(id);

/** Make an element: with `text`, handlers of events in `on`, `data`; all else are attributes, and none where false. */
export function element(tag, { text, on = {}, data = {}, ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  for (const [event, handler] of Object.entries(on)) made.addEventListener(event, handler);
  Object.assign(made.dataset, data);
  made.append(...children.filter(Boolean));
  return made;
}

/** Put a text on the clipboard; false where the browser does not let us. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

/** Let a browser save bytes as a file. */
export function save(blob, name) {
  const address = URL.createObjectURL(blob);
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
