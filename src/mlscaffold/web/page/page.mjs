// The page: what is answered, the project that comes of it, and what was before. See ../engine.py for who computes it.

import { byId, copy, element, save } from "./dom.mjs";
import * as engine from "./engine.mjs";
import { drawCode, drawTree, marks, moveInTree, summary, toShow } from "./files.mjs";
import { goTo, makeForm, showForm } from "./form.mjs";
import { drawPicture } from "./picture.mjs";

const TYPING_MS = 150; // after a key, until a text counts as an answer
const MOST_STEPS = 100; // that can be undone

let catalogue;
let given = {}; // answers by question, those that are no defaults, as they are typed on a command line
let shown; // the last project that could be made, as the engine gave it
let before; // the project before it
let found = new Map(); // what changed from that to this
let selected = "README.md"; // the file that is shown,
let opened; // and the one that somebody wanted to see
let asked = 0; // counts questions to the engine: only the last answer counts
let waiting; // for the end of a word that is being typed,
let typing = {}; // which is not an answer yet
let typedAt = ""; // the question that was typed at last: its keys are undone together
const past = [];

begin();

async function begin() {
  try {
    const link = await connect();
    const begun = await engine.begin();
    catalogue = begun.catalogue;
    byId("here").textContent = begun.here;
    document.title = `New project - mlscaffold ${catalogue.version}`;
    makeForm(catalogue, answer);
    makePresets();
    if (link) given = await taken(link);
    await change(given, { keep: false });
  } catch (error) {
    tell(error.message);
  }
}

/** Take the token out of the address, where somebody could see or copy it; return the link that stands there. */
async function connect() {
  const fragment = location.hash.slice(1);
  const rest = engine.withoutToken(fragment);
  byId("notice").hidden = true;
  history.replaceState(null, "", rest ? `#${rest}` : location.pathname);
  await engine.connect(fragment);
  return rest;
}

/** Take an answer from the form; an empty text takes the default. */
function answer(question, text, typed) {
  const next = { ...given, ...typing, [question.name]: typed && !text ? undefined : text };
  for (const name of question.takes_back) next[name] = undefined;
  clearTimeout(waiting);
  if (!typed) {
    change(next);
    return;
  }
  typing = next;
  waiting = setTimeout(() => change(next, { typed: question.name }), TYPING_MS);
}

/** Show the project for other answers. What cannot be made stays in the form, with the reason. */
async function change(next, { keep = true, typed = "" } = {}) {
  const begun = performance.now();
  const mine = (asked += 1);
  const goesOn = Boolean(typed) && typed === typedAt; // with what was typed before, as one step
  typedAt = typed;
  if (keep && !goesOn) past.push(given);
  if (past.length > MOST_STEPS) past.shift();
  given = next;
  typing = {};
  let project;
  try {
    project = await engine.preview(next);
  } catch (error) {
    tell(error.message);
    return;
  }
  if (mine !== asked) return;
  byId("undo").disabled = !past.length;
  showForm(catalogue, project);
  const wrong = Object.values(project.errors);
  for (const id of ["link", "zip", "make", "copy"]) byId(id).disabled = wrong.length > 0;
  if (wrong.length) {
    say(`Not yet: ${wrong.join(" ")}`);
    return;
  }
  if (!goesOn) before = shown;
  given = project.given;
  shown = project;
  draw();
  performance.measure("change", { start: begun });
}

function draw() {
  found = marks(before?.files, shown.files);
  selected = toShow(found, opened, selected);
  drawPicture(catalogue, shown.answers, before?.answers, goTo);
  drawFiles();
  byId("tree").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  drawNeeds();
  const { total, changes } = summary(found);
  byId("total").textContent = total;
  say(changes ? `${total}: ${changes}` : total);
  byId("command").textContent = shown.command;
  history.replaceState(null, "", `#${shown.link}`);
}

function drawFiles() {
  const query = byId("search").value.trim();
  if (!found.has(selected)) selected = found.keys().next().value;
  const texts = { ...before?.files, ...shown.files };
  drawTree(found, texts, query, selected, (path) => {
    selected = opened = path;
    drawFiles();
    byId("tree").querySelector("[aria-current]")?.focus();
  });
  drawCode(selected, texts[selected], found.get(selected), query);
}

function drawNeeds() {
  const former = new Set(before?.needs.map(({ name }) => name));
  byId("needs-count").textContent = String(shown.needs.length);
  byId("needs").replaceChildren(
    ...shown.needs.map(({ name, bounds, note }) =>
      element(
        "li",
        { class: before && !former.has(name) ? "new" : "" },
        element("span", { text: name }),
        element("span", { class: "dim", text: ` ${bounds}` }),
        note && element("p", { class: "dim", text: note }),
      )),
  );
}

function makePresets() {
  const buttons = Object.entries(catalogue.presets).map(([title, answers]) =>
    element("button", { type: "button", text: title, on: { click: () => change({ ...given, ...answers }) } }));
  byId("presets").replaceChildren(...buttons);
}

async function undo() {
  if (!past.length) return;
  clearTimeout(waiting);
  await change(past.pop(), { keep: false });
}

/** The answers of a link; what the engine does not take of it is told. */
async function taken(link) {
  const read = await engine.readLink(link);
  if (read.told.length) tell(read.told.join(" "));
  return read.given;
}

function say(text) {
  byId("status").textContent = text;
}

function tell(text) {
  byId("notice-text").textContent = text;
  byId("notice").hidden = false;
}

async function copied(text, what) {
  say((await copy(text)) ? `${what} copied` : "This browser lets no page copy. Mark the text and copy it.");
}

async function download() {
  try {
    save(await engine.archive(given), `${shown.project}.zip`);
    say(`${shown.project}.zip is saved`);
  } catch (error) {
    tell(error.message);
  }
}

function openMaking() {
  byId("folder").value = shown.project;
  byId("folder-error").textContent = "";
  for (const id of ["made", "copy-steps"]) byId(id).hidden = true;
  byId("make-now").hidden = false;
  byId("making").showModal();
  byId("folder").select();
}

async function makeNow(event) {
  event.preventDefault();
  if (byId("make-now").hidden) return;
  byId("make-now").disabled = true;
  byId("folder-error").textContent = "";
  try {
    const made = await engine.make(given, byId("folder").value.trim());
    byId("made-text").textContent = `Made ${made.path}: ${made.files} files.`;
    byId("made-note").textContent = made.note;
    byId("steps").textContent = made.steps.replace(/^Next:\n/, "").replace(/^ {2}/gm, "").trimEnd();
    for (const id of ["made", "copy-steps"]) byId(id).hidden = false;
    byId("make-now").hidden = true;
    byId("copy-steps").focus();
  } catch (error) {
    byId("folder-error").textContent = error.message;
    byId("folder").focus();
  }
  byId("make-now").disabled = false;
}

const onClick = {
  undo,
  link: () => copied(location.href, "Link"),
  zip: download,
  make: openMaking,
  copy: () => copied(shown.command, "Command"),
  "copy-steps": () => copied(byId("steps").textContent, "Steps"),
  "making-close": () => byId("making").close(),
  "notice-close": () => { byId("notice").hidden = true; },
};
for (const [id, handler] of Object.entries(onClick)) byId(id).addEventListener("click", handler);
byId("making-form").addEventListener("submit", makeNow);
byId("search").addEventListener("input", () => shown && drawFiles());
byId("tree").addEventListener("keydown", moveInTree);
addEventListener("keydown", (event) => {
  const writes = event.target.matches("input[type=text], input[type=search]");
  if ((event.ctrlKey || event.metaKey) && event.key === "z" && !event.shiftKey && !writes) {
    event.preventDefault();
    undo();
  }
});
addEventListener("hashchange", async () => {
  try {
    if (!catalogue) {
      await begin();
      return;
    }
    const link = await connect();
    await change(link ? await taken(link) : given);
  } catch (error) {
    tell(error.message);
  }
});
