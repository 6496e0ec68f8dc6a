// The picture of the project: stages joined by arrows, in each the questions that belong to it, with their answers.

import { byId, element } from "./dom.mjs";

/** Draw the project. `go(name)` is called for the question of a part that is chosen. */
export function drawPicture(catalogue, answers, before, go) {
  const asked = new Map(catalogue.questions.map((question) => [question.name, question]));
  const draw = ([title, names]) =>
    element(
      "li",
      { class: "stage" },
      element("h2", { text: title }),
      element("div", { class: "parts" }, ...names.map((name) => part(asked.get(name)))),
    );
  const part = (question) => {
    const { name } = question;
    const changed = before !== undefined && before[name] !== answers[name];
    return drawPart(question, answers[name], changed, () => go(name));
  };
  const focused = document.activeElement?.dataset?.part;
  byId("picture").replaceChildren(
    element("ol", { class: "pipeline" }, ...Object.entries(catalogue.stages).map(draw)),
    element("ul", { class: "around" }, ...Object.entries(catalogue.around).map(draw)),
  );
  if (focused) document.querySelector(`[data-part="${focused}"]`)?.focus();
}

function drawPart(question, answer, changed, go) {
  const values = question.several ? answer.split(",") : [answer];
  const choices = question.choices.filter((choice) => values.includes(choice.value));
  const absent = choices.every((choice) => choice.absent);
  const [first] = choices;
  return element(
    "button",
    {
      type: "button",
      class: ["part", absent ? "absent" : "present", changed && "changed"].filter(Boolean).join(" "),
      title: choices.map((choice) => choice.note).filter(Boolean).join("; ") || undefined,
      data: { part: question.name },
      on: { click: go },
    },
    element("span", { class: "what", text: question.title }),
    element("span", { class: "answer", text: choices.map((choice) => choice.label).join(", ") || "None" }),
    first?.drawing.length && drawing(first.drawing),
  );
}

function drawing(rows) {
  const kinds = { "#": "full", "+": "half", ".": "empty" };
  const cells = (row) => [...row].map((sign) => element("i", { class: kinds[sign] }));
  return element(
    "span",
    { class: "drawing", "aria-hidden": "true" },
    ...rows.map((row) => element("span", { class: row.length > 8 ? "row fine" : "row" }, ...cells(row))),
  );
}
