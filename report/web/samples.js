// Texts with the right answers and those that models give; and a text that the reader types, run here.

const kindWords = { natural: "as drawn", correlated: "shortcut works", uncorrelated: "shortcut fails" };
const unpacked = new Map();

// The ids of the models before, after and retrained, of what the section's menus name.
function lookedAt(chapter) {
  const name = chapter.value("look_capability", Object.keys(chapter.data.samples)[0]);
  const own = chapter.data.samples[name];
  const [rate, c_tr, reft] = ["look_rate", "look_c_tr", "look_reft"].map((id) => chapter.value(id));
  const seed = chapter.data.attention.cells.map((cell) => cell.seed).sort((a, b) => a - b)[0];
  const cells = chapter.data.attention.cells.filter((cell) => cell.capability === name && cell.fine_tuning_rate === rate
    && cell.c_tr === c_tr && cell.seed === seed);
  const tuned = cells.find((cell) => cell.stage === "fine-tune"), back = cells.find((cell) => cell.stage === "reft" && cell.learning_rate === reft);
  return { name, own, ids: ["before", tuned?.cell, ...(chapter.control("look_reft") ? [back?.cell] : [])] };
}

function drawSamples(chapter) {
  if (!chapter.data.samples) return;
  const { own, ids } = lookedAt(chapter);
  const body = chapter.find("sample-table").tBodies[0];
  const kind = chapter.value("look_kind", "all"), wanted = chapter.value("look_given", "all");
  const word = (code) => (code === undefined || code < 0 ? "–" : own.answers[code]);
  const rows = own.texts.map((text, i) => ({ text, i, kind: own.kinds[i], right: own.right[i], given: ids.map((id) => own.models[id]?.[i]) }))
    .filter((row) => (kind === "all" || row.kind === kind) && (wanted === "all" || sortOf(own, row).includes(wanted)));
  body.replaceChildren(...rows.map((row) => {
    const line = document.createElement("tr");
    const add = (content, name = "") => {
      const cell = document.createElement("td");
      cell.className = name;
      cell.append(content);
      line.append(cell);
    };
    const tokens = row.text.slice(1).map((token) => own.vocabulary[token]);
    add(tokens.some((token) => token.length > 1) ? tokens.join(" ") : tokens.join(""), "words text-sample");
    add(kindWords[row.kind] + (own.asked.length ? `, asked for the ${own.asked[row.i] === "pt" ? "old" : "new"} task` : ""), "words");
    add(word(row.right[0]), "pt");
    add(word(row.right[1]), "ft");
    for (const code of row.given) {
      const role = code === undefined || code < 0 ? "" : code === row.right[0] ? "pt" : code === row.right[1] ? "ft" : "";
      const sign = { pt: "✓ old", ft: "✓ new" }[role] ?? (code >= 0 && code === own.shortcut[row.i] ? "shortcut" : code >= 0 ? "✗" : "");
      const mark = document.createElement("small");
      mark.textContent = ` ${sign}`;
      const both = document.createElement("span");
      both.append(word(code), mark);
      add(both, role);
    }
    return line;
  }));
  chapter.find("samples-count").textContent = ids.some((id) => id && own.models[id]) && own.models[ids[1]]
    ? `${rows.length} of ${own.texts.length} texts.` : `${rows.length} texts; the chosen model is not in this page.`;
  labelCards(chapter.section("samples"));
  drawTyped(chapter);
}

// What the model after fine-tuning gives: the old task's answer, the new one's, the shortcut, or another.
function sortOf(own, { i, right, given: [, code] }) {
  const found = [];
  if (code === right[0]) found.push("pt");
  if (code === right[1]) found.push("ft");
  if (code >= 0 && code === own.shortcut[i]) found.push("shortcut");
  return found.length || !(code >= 0) ? found : ["other"];
}

function modelOf(own, id) {
  const packed = own.weights[id];
  if (!packed) return undefined;
  if (!unpacked.has(packed)) unpacked.set(packed, unpackModel(packed, own.shape));
  return unpacked.get(packed);
}

// Token ids of a typed text, filled up as samples are; a letter that is not known is named.
function encoded(own, text) {
  const ids = [...text].map((letter) => own.vocabulary.indexOf(letter));
  const strange = [...text].find((_, i) => ids[i] < 0 || own.vocabulary[ids[i]] === own.reads.bos);
  if (strange !== undefined) return { problem: `“${strange}” is not among the letters.` };
  if (ids.length > own.reads.max_length) return { problem: `At most ${own.reads.max_length} letters.` };
  if (ids.length < own.answer) return { problem: "Type at least one letter." };
  const pad = own.vocabulary.indexOf(own.reads.pad), bos = own.vocabulary.indexOf(own.reads.bos);
  return { ids: [bos, ...ids, ...Array(own.reads.max_length - ids.length).fill(pad)] };
}

function drawTyped(chapter) {
  const input = chapter.find("typed"), place = chapter.find("typed-answers"), note = chapter.find("typed-note");
  if (!input) return;
  const { own, ids } = lookedAt(chapter);
  const { ids: tokens, problem } = encoded(own, input.value.trim());
  note.textContent = problem ?? "";
  if (problem) return place.replaceChildren();
  const moments = ["before", "after fine-tuning", "retrained"];
  const shown = ids.map((id, i) => {
    const part = document.createElement("div"), model = id && modelOf(own, id);
    const head = document.createElement("p");
    part.append(head);
    if (!model) {
      head.append(`${moments[i]}: this model's weights are not in the page; the setting that the page opens on has them.`);
      return part;
    }
    const { logits, attention } = forward(model, tokens, own.answer), shares = softmax(logits);
    const best = shares.indexOf(Math.max(...shares)), answer = document.createElement("strong");
    answer.textContent = own.answers[best];
    head.append(`${moments[i]}: `, answer, ` (${(100 * shares[best]).toFixed(0)} % sure)`);
    part.append(...attention.map((heads, block) => attentionRows(own, tokens, heads, block)));
    return part;
  });
  place.replaceChildren(...shown);
}

// The answer's attention, token by token: the darker, the more.
function attentionRows(own, tokens, heads, block) {
  const row = document.createElement("p");
  row.className = "attention-row";
  for (const [number, shares] of heads.entries()) {
    const label = document.createElement("span");
    label.className = "block-name";
    label.textContent = `block ${block}${heads.length > 1 ? `·${number}` : ""}`;
    row.append(label, ...tokens.map((token, place) => {
      const cell = document.createElement("span"), share = shares[place] ?? 0;
      cell.className = `token${share > 0.45 ? " much" : ""}${place === own.answer ? " answering" : ""}`;
      cell.style.setProperty("--share", `${Math.round(100 * share)}%`);
      cell.textContent = own.vocabulary[token] === own.reads.bos ? "▹" : own.vocabulary[token];
      cell.title = `position ${place}: ${(100 * share).toFixed(1)} %`;
      return cell;
    }));
  }
  return row;
}

document.addEventListener("input", ({ target }) => {
  if (target.matches?.(".typing input")) drawTyped(chapterOf(target));
});
