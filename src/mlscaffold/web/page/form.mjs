// The questions beside the picture. They are made once and then kept up to date, so that the focus stays where it is.

import { byId, element } from "./dom.mjs";

/** Make the form: texts first, then the questions of each stage. `answer(question, text, typed)` is called for each. */
export function makeForm(catalogue, answer) {
  const asked = new Map(catalogue.questions.map((question) => [question.name, question]));
  const texts = catalogue.questions.filter((question) => !question.choices.length);
  const often = texts.filter((question) => !catalogue.seldom.includes(question.name));
  const seldom = texts.filter((question) => catalogue.seldom.includes(question.name));
  const more = element("details", {}, element("summary", { text: "More about the project" }));
  more.append(...seldom.map((question) => textField(question, answer)));
  const group = (title, ...fields) =>
    element("section", { class: "group", "aria-label": title }, element("h2", { text: title }), ...fields);
  const stages = Object.entries({ ...catalogue.stages, ...catalogue.around });
  byId("form").replaceChildren(
    group("Project", ...often.map((question) => textField(question, answer)), more),
    ...stages.map(([title, names]) => group(title, ...names.map((name) => choiceField(asked.get(name), answer)))),
  );
}

/** Show what is answered, which choices are closed and why, and what is wrong. */
export function showForm(catalogue, { answers, closed, errors }) {
  for (const question of catalogue.questions) {
    const field = byId(`question-${question.name}`);
    const wrong = errors[question.name] ?? "";
    byId(`error-${question.name}`).textContent = wrong;
    field.classList.toggle("wrong", Boolean(wrong));
    if (wrong) field.closest("details")?.setAttribute("open", "");
    if (question.choices.length) showChoices(field, question, answers[question.name], closed[question.name] ?? {});
    else showText(field.querySelector("input"), answers[question.name], wrong);
  }
}

/** Go to a question: where the picture leads. */
export function goTo(name) {
  const field = byId(`question-${name}`);
  field.closest("details")?.setAttribute("open", "");
  field.scrollIntoView({ block: "center" });
  (field.querySelector("input:checked") ?? field.querySelector("input:enabled"))?.focus();
  document.querySelector(".question.here")?.classList.remove("here");
  field.classList.add("here");
}

function textField(question, answer) {
  const { name } = question;
  const input = element("input", {
    type: "text",
    id: `input-${name}`,
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": `note-${name} error-${name}`,
    on: {
      input: () => answer(question, input.value, true),
      blur: () => { input.value ||= input.placeholder; },
    },
  });
  return element(
    "div",
    { class: "question", id: `question-${name}` },
    element("label", { for: `input-${name}`, text: question.ask }),
    input,
    element("p", { class: "dim", id: `note-${name}`, text: question.note }),
    element("p", { class: "error", id: `error-${name}`, role: "alert" }),
  );
}

function showText(input, text, wrong) {
  input.setAttribute("aria-invalid", String(Boolean(wrong)));
  if (document.activeElement === input) input.placeholder = text; // who deletes all gets the default, and sees it
  else input.value = text;
}

function choiceField(question, answer) {
  const { name } = question;
  const choices = element("div", { class: "choices" });
  const field = element(
    "fieldset",
    { class: "question", id: `question-${name}`, "aria-describedby": `why-${name} error-${name}` },
    element("legend", { text: question.ask }),
    question.note && element("p", { class: "dim", text: question.note }),
    choices,
    element("div", { class: "dim", id: `why-${name}` }),
    element("p", { class: "error", id: `error-${name}`, role: "alert" }),
  );
  for (const { value, label, note } of question.choices) {
    const input = element("input", {
      type: question.several ? "checkbox" : "radio",
      name,
      value,
      on: { change: () => answer(question, chosen(choices, question), false) },
    });
    const shown = element("span", { text: label });
    choices.append(element("label", { class: "choice", title: note || undefined }, input, shown));
  }
  return field;
}

function chosen(choices, question) {
  const values = [...choices.querySelectorAll("input:checked")].map((input) => input.value);
  return values.join(",") || (question.several ? "none" : "");
}

function showChoices(field, question, answer, closed) {
  const taken = new Set(question.several ? answer.split(",") : [answer]);
  const told = [];
  for (const [place, input] of [...field.querySelectorAll("input")].entries()) {
    const choice = question.choices[place];
    input.checked = taken.has(choice.value);
    input.disabled = choice.value in closed && !input.checked;
    if (choice.value in closed) told.push(element("p", { text: `${choice.label}: ${closed[choice.value]}` }));
    else if (input.checked && choice.note) {
      told.push(element("p", { text: question.several ? `${choice.label}: ${choice.note}` : choice.note }));
    }
  }
  byId(`why-${question.name}`).replaceChildren(...told);
}
