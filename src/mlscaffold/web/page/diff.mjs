// What differs between two texts, line by line.

const MOST_CELLS = 4_000_000; // of the table; larger files count as changed throughout

/** Compare texts: `added` are the lines of `after` that are new, `cuts` those before which some are gone. */
export function compare(before, after) {
  const [old, now] = [split(before), split(after)];
  let head = 0;
  while (head < old.length && head < now.length && old[head] === now[head]) head += 1;
  let tail = 0;
  const most = Math.min(old.length, now.length) - head;
  while (tail < most && old[old.length - 1 - tail] === now[now.length - 1 - tail]) tail += 1;
  const [a, b] = [old.slice(head, old.length - tail), now.slice(head, now.length - tail)];
  const found = { added: new Set(), cuts: new Set(), gone: 0 };
  for (const [kind, line] of steps(a, b)) {
    if (kind === "add") found.added.add(head + line);
    else {
      found.cuts.add(head + line);
      found.gone += 1;
    }
  }
  return found;
}

export function split(text) {
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  return lines;
}

/** The shortest way from `a` to `b`: pairs of "add" or "cut" and the line of `b` where it happens. */
function* steps(a, b) {
  const [rows, columns] = [a.length + 1, b.length + 1];
  if (rows * columns > MOST_CELLS) {
    for (let i = 0; i < a.length; i += 1) yield ["cut", 0];
    for (let j = 0; j < b.length; j += 1) yield ["add", j];
    return;
  }
  const same = new Uint16Array(rows * columns); // the longest common part of the ends of both
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      const below = same[(i + 1) * columns + j];
      const right = same[i * columns + j + 1];
      const both = a[i] === b[j] ? same[(i + 1) * columns + j + 1] + 1 : 0;
      same[i * columns + j] = Math.max(below, right, both);
    }
  }
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) [i, j] = [i + 1, j + 1];
    else if (j < b.length && (i === a.length || same[i * columns + j + 1] >= same[(i + 1) * columns + j])) {
      yield ["add", j];
      j += 1;
    } else {
      yield ["cut", j];
      i += 1;
    }
  }
}
