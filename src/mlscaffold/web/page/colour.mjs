// Colour the parts of a text that every reader looks for: comments, strings, keywords, numbers.

const WORDS = "and as assert async await break case class continue def del elif else except finally for from global if "
  + "import in is lambda match nonlocal not or pass raise return try while with yield None True False self cls";
const KEYWORDS = new Set(WORDS.split(" "));
const STRING = String.raw`"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'`;
const SHELL = String.raw`\b(?:if|then|else|fi|for|do|done|exec)\b`;
const LANGUAGES = {
  py: new RegExp(`(#.*)|([rbfu]{0,2}(?:"""[^]*?"""|'''[^]*?'''|${STRING}))|([A-Za-z_]\\w*)|(\\b\\d[\\w.]*)`, "g"),
  yaml: new RegExp(`((?:^|(?<=\\s))#.*)|(${STRING})|(^[ -]*[\\w./-]+(?=:(?:\\s|$)))|(\\b\\d[\\w.]*\\b)`, "gm"),
  toml: new RegExp(`(#.*)|(${STRING})|(^\\s*(?:\\[.*\\]|[\\w.-]+(?= =)))|(\\b\\d[\\w.]*\\b)`, "gm"),
  sh: new RegExp(`((?:^|(?<=\\s))#.*)|(${STRING})|(^[A-Z]+(?=\\s)|${SHELL})|(\\$\\{?\\w+\\}?)`, "gm"),
  json: new RegExp(`($^)|("(?:\\\\.|[^"\\\\])*")|\\b(true|false|null)\\b|(-?\\b\\d[\\d.eE+-]*)`, "g"),
  md: /($^)|(`[^`\n]+`)|(^#{1,6} .*$)|($^)/gm,
};
const BY_ENDING = { yml: "yaml", yaml: "yaml", toml: "toml", cfg: "toml", sh: "sh", json: "json", md: "md", py: "py" };
const KINDS = ["comment", "string", "keyword", "number"];

/** Split a text into lines, each a list of [kind, text]; the kind is empty for what has no colour. */
export function coloured(text, path) {
  const lines = [[]];
  const put = (kind, part) => {
    for (const [number, piece] of part.split("\n").entries()) {
      if (number) lines.push([]);
      if (piece) lines.at(-1).push([kind, piece]);
    }
  };
  let end = 0;
  for (const found of text.matchAll(language(path) ?? /$^/g)) {
    const place = found.slice(1).findIndex((group) => group !== undefined);
    if (found[0] === "" || (KINDS[place] === "keyword" && path.endsWith(".py") && !KEYWORDS.has(found[0]))) continue;
    put("", text.slice(end, found.index));
    put(KINDS[place], found[0]);
    end = found.index + found[0].length;
  }
  put("", text.slice(end));
  if (!lines.at(-1).length) lines.pop();
  return lines;
}

function language(path) {
  const name = path.split("/").at(-1);
  return LANGUAGES[name === "Dockerfile" ? "sh" : BY_ENDING[name.split(".").at(-1)]];
}
