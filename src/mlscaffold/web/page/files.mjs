// The tree of files with what a choice changed, and the file that is looked at.

import { coloured } from "./colour.mjs";
import { compare, split } from "./diff.mjs";
import { byId, element } from "./dom.mjs";

/** Compare the files of two projects: by path, "new", "changed" with the lines, "gone", or "same". */
export function marks(before, after) {
  const found = new Map();
  for (const [path, text] of Object.entries(after)) {
    const lines = split(text).length;
    if (!before || before[path] === text) found.set(path, { kind: "same", lines });
    else if (!(path in before)) found.set(path, { kind: "new", lines, added: lines });
    else {
      const { added, cuts, gone } = compare(before[path], text);
      found.set(path, { kind: "changed", lines, added: added.size, gone, lit: added, cuts });
    }
  }
  for (const path of Object.keys(before ?? {})) {
    if (!(path in after)) found.set(path, { kind: "gone", lines: split(before[path]).length });
  }
  return found;
}

/** Say in a few words what a choice changed. */
export function summary(found) {
  const count = (kind) => [...found.values()].filter((mark) => mark.kind === kind).length;
  const lines = [...found.values()].reduce((sum, mark) => sum + (mark.kind === "gone" ? 0 : mark.lines), 0);
  const files = found.size - count("gone");
  const parts = ["new", "changed", "gone"].filter(count).map((kind) => `${count(kind)} ${kind}`);
  return { total: `${files} files, ${lines.toLocaleString("en")} lines`, changes: parts.join(", ") };
}

/** The file to look at after a choice: the one that was opened if the choice touched it, else the most changed. */
export function toShow(found, opened, selected) {
  const touched = [...found].filter(([, mark]) => mark.kind === "changed" || mark.kind === "new");
  if (!touched.length) return selected;
  if (touched.some(([path]) => path === opened)) return opened;
  const [[most]] = touched.sort(([a, one], [b, other]) => aside(a) - aside(b) || other.added - one.added);
  return most;
}

/** Texts and tests follow from what is looked for. */
const aside = (path) => Number(path.endsWith(".md") || path.startsWith("tests/"));

/** Draw the tree: of all files, or of those that hold what is searched for. `open(path)` is called for one. */
export function drawTree(found, texts, query, selected, open) {
  const wanted = query.toLowerCase();
  const folders = new Map();
  for (const path of [...found.keys()].sort()) {
    const hits = wanted ? count(texts[path] ?? "", wanted) : 0;
    if (wanted && !hits && !path.toLowerCase().includes(wanted)) continue;
    const folder = path.includes("/") ? path.slice(0, path.lastIndexOf("/") + 1) : "";
    if (!folders.has(folder)) folders.set(folder, []);
    folders.get(folder).push(file(path, found.get(path), hits, path === selected, open));
  }
  const groups = [...folders].map(([folder, files]) =>
    element("div", {}, folder && element("h2", { text: folder }), element("ul", {}, ...files)));
  byId("tree").replaceChildren(...groups);
  if (!groups.length) byId("tree").append(element("p", { class: "dim", text: "No file holds that." }));
  const buttons = [...byId("tree").querySelectorAll("button")];
  const reachable = buttons.find((button) => button.hasAttribute("aria-current")) ?? buttons[0];
  for (const button of buttons) button.tabIndex = button === reachable ? 0 : -1;
}

/** Arrow keys go through the tree, which takes one stop of the Tab key. */
export function moveInTree(event) {
  const buttons = [...byId("tree").querySelectorAll("button")];
  const here = buttons.indexOf(document.activeElement);
  const steps = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: buttons.length - 1 };
  const next = buttons[steps[event.key]];
  if (here < 0 || !next) return;
  event.preventDefault();
  buttons[here].tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

/** Show a file: lines that are new or hold what is searched for are lit; the first of these is in sight. */
export function drawCode(path, text, mark, query) {
  const wanted = query.toLowerCase();
  byId("path").replaceChildren(
    element("span", { text: path }),
    mark.kind !== "same" && element("span", { class: `mark ${mark.kind}`, text: spoken(mark) }),
  );
  const lines = coloured(text, path).map((parts, number) => {
    const classes = ["line"];
    if (mark.kind === "new" || mark.lit?.has(number)) classes.push("new");
    if (mark.kind === "gone") classes.push("gone");
    if (mark.cuts?.has(number)) classes.push("cut");
    if (wanted && parts.map(([, part]) => part).join("").toLowerCase().includes(wanted)) classes.push("hit");
    const pieces = parts.map(([kind, part]) => (kind ? element("span", { class: kind, text: part }) : part));
    return element("span", { class: classes.join(" ") }, ...pieces, "\n");
  });
  const pane = byId("lines");
  pane.classList.toggle("all-new", mark.kind === "new");
  pane.replaceChildren(...lines);
  const lit = pane.querySelector(".hit") ?? (mark.kind === "changed" ? pane.querySelector(".new, .cut") : null);
  pane.scrollTop = lit ? Math.max(0, lit.offsetTop - pane.clientHeight / 4) : 0;
  pane.scrollLeft = 0;
}

function file(path, mark, hits, selected, open) {
  const name = path.slice(path.lastIndexOf("/") + 1);
  const noted = hits ? `${hits} ${hits === 1 ? "hit" : "hits"}` : spoken(mark);
  const button = element(
    "button",
    { type: "button", class: `file ${mark.kind}`, "aria-current": selected && "true", on: { click: () => open(path) } },
    element("span", { class: "name", text: name }),
    element("span", { class: "count", text: noted }),
  );
  return element("li", {}, button);
}

function spoken(mark) {
  if (mark.kind === "changed") return `+${mark.added} −${mark.gone}`;
  return mark.kind === "same" ? String(mark.lines) : `${mark.kind} ${mark.lines}`;
}

function count(text, wanted) {
  return text.toLowerCase().split(wanted).length - 1;
}
