// A sweep: the map of answers over its axes, curves along one axis, and the table of every answer.

const numeric = (text) => text !== "" && Number.isFinite(Number(text));
const percent = (share) => (share === null ? "–" : `${(100 * share).toFixed(0)}`);
const WIDE = 6; // columns of a panel above which cells have no room for words

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// What the answers differ in: the axes, and the settings at each point. Values in the order of the grid.
function dimensionsOf(sweep) {
  const axes = Object.entries(sweep.axes).map(([name, values], i) => ({ name, values, of: (row) => row.at[i] }));
  const titles = { rate: "rate", c_tr: "C_Tr", capability: "model" };
  const settings = Object.keys(titles).map((name) => ({
    name, title: titles[name], values: [...new Set(sweep.answers.map((row) => row[name]))], of: (row) => row[name],
  }));
  return [...axes, ...settings];
}

const product = (lists) => lists.reduce((all, list) => all.flatMap((one) => list.map((value) => [...one, value])), [[]]);
const titleOf = (dimension, value) => (dimension.name === "c_tr" ? `C_Tr = ${value}` : `${dimension.title ?? dimension.name} ${value}`);

// Which dimension goes across, which down, which make panels, and which are held at a value.
function layoutOf(chapter) {
  const all = dimensionsOf(chapter.sweep), find = (name) => all.find((own) => own.name === name);
  const across = find(chapter.value("over_across"));
  let down = find(chapter.value("over_down"));
  if (down === across) {
    down = all.find((own) => own !== across && own.values.length > 1) ?? all.find((own) => own !== across);
    chapter.control("over_down").value = down.name;
  }
  const rest = all.filter((own) => own !== across && own !== down);
  const held = rest.filter((own) => chapter.control(`over_${own.name}`));
  const panels = rest.filter((own) => !held.includes(own));
  for (const own of all) {
    const control = chapter.control(`over_${own.name}`);
    if (control) control.closest("label").hidden = !held.includes(own);
  }
  const at = (row) => held.every((own) => own.of(row) === chapter.value(`over_${own.name}`));
  return { across, down, panels, rows: chapter.sweep.answers.filter(at) };
}

function drawSweep(chapter) {
  const layout = layoutOf(chapter), { across, down, panels, rows } = layout;
  const show = chapter.value("over_show");
  chapter.find("map-note").textContent = `${chapter.sweep.notes[show]} ${across.values.length > WIDE ? "Symbols: see the list above. " : ""}Choosing a cell shows its model below.`;
  const place = chapter.find("sweep-map");
  // One row of panels for each value of one dimension: the wider way if there is room, else as they fit.
  for (const order of [panels, [...panels].reverse()].sort((a, b) => columnsOf(b) - columnsOf(a))) {
    place.replaceChildren(...product(order.map((own) => own.values)).map((values) => {
      const inside = rows.filter((row) => order.every((own, i) => own.of(row) === values[i]));
      const title = panels.filter((own) => own.values.length > 1).map((own) => titleOf(own, values[order.indexOf(own)]));
      return panelOf(chapter, layout, inside, title.join(", "), show);
    }));
    place.style.gridTemplateColumns = `repeat(${columnsOf(order)}, max-content)`;
    place.classList.add("aligned");
    if (place.scrollWidth <= place.clientWidth + 1) return;
  }
  place.classList.remove("aligned");
}

const columnsOf = (panels) => panels.findLast((own) => own.values.length > 1)?.values.length ?? 1;

function panelOf(chapter, { across, down }, rows, title, show) {
  const small = across.values.length > WIDE;
  const head = element("tr", {}, element("th", { scope: "col", class: "corner" }, `${down.title ?? down.name} ↓ ${across.title ?? across.name} →`),
    ...across.values.map((value) => element("th", { scope: "col" }, value)));
  const body = down.values.map((one) => element("tr", {}, element("th", { scope: "row" }, one),
    ...across.values.map((other) => cellOf(chapter, rows.find((row) => across.of(row) === other && down.of(row) === one), show, small))));
  const table = element("table", { class: small ? "map small-map" : "map" }, element("caption", {}, title || "all settings"),
    element("thead", {}, head), element("tbody", {}, ...body));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title || "all settings" }, table);
}

function cellOf(chapter, row, show, small) {
  if (!row) return element("td", { class: "none" }, "–");
  const seeds = ([, low, high]) => (low !== null && low !== high ? `(${percent(low)}–${percent(high)})` : "");
  const words = `${Object.entries(chapter.sweep.axes).map(([name], i) => `${name} ${row.at[i]}`).join(", ")}, rate ${row.rate}, C_Tr = ${row.c_tr}: ${row.kind}, O_PT ${percent(row.before[0])} % after fine-tuning, ${percent(row.after[0])} % after the best reFT. Show this model below`;
  const button = element("button", {
    type: "button", class: "pick", title: words,
    "data-point": row.point, "data-capability": row.capability, "data-rate": row.rate, "data-c_tr": row.c_tr,
  });
  const cell = element("td", {}, button);
  if (show === "kind") {
    cell.className = row.kind.replaceAll(" ", "-");
    const symbol = element("span", { "aria-hidden": "true" }, chapter.sweep.symbols[row.kind]);
    if (small) {
      button.append(element("strong", {}, symbol));
      button.setAttribute("aria-label", words);
      return cell;
    }
    button.append(element("strong", {}, symbol, ` ${row.kind}`));
    if (row.after[0] !== null) button.append(element("br"), `${percent(row.before[0])} → ${percent(row.after[0])} `, element("small", {}, seeds(row.after)));
    else if (row.before[0] !== null) button.append(element("br"), `${percent(row.before[0])} → –`);
    return cell;
  }
  const share = row[show][0];
  button.append(element("strong", {}, share === null ? `${chapter.sweep.symbols[row.kind]} ${small ? "" : row.kind}` : percent(share)));
  if (!small && seeds(row[show])) button.append(" ", element("small", {}, seeds(row[show])));
  if (share === null) cell.className = "none";
  else cell.style.background = `color-mix(in srgb, var(--pt) calc(${share} * var(--shade)), var(--card))`;
  return cell;
}

// Of one axis of three numbers or more, one panel per setting: accuracies against the axis, and the seeds' range.
function drawLines(chapter) {
  const part = chapter.find("lines-part"), place = chapter.find("lines");
  const layout = layoutOf(chapter), axis = layout.across;
  const alone = Object.keys(chapter.sweep.axes).join() === axis.name;
  part.hidden = !alone || axis.values.length < 3 || !axis.values.every(numeric);
  if (part.hidden) return;
  const fixed = [layout.down, ...layout.panels];
  const settings = product(fixed.map((own) => own.values));
  while (place.children.length < settings.length) place.append(element("div", { class: "plot", role: "group" }));
  const x = axis.values.map(Number).sort((a, b) => a - b);
  const wide = x[0] > 0 && x.at(-1) / x[0] >= 20;
  for (const [i, values] of settings.entries()) {
    const rows = layout.rows.filter((row) => fixed.every((own, j) => own.of(row) === values[j]));
    const at = x.map((number) => rows.find((row) => Number(axis.of(row)) === number));
    const trace = (name, key, color, symbol) => {
      const spans = at.map((row) => row?.[key] ?? [null, null, null]);
      const y = spans.map(([value]) => value), arms = (end) => spans.map((own) => (own[end] === null ? 0 : Math.abs(own[end] - own[0])));
      return line(name, x, y, color, { symbol, trace: {
        text: x.map((number) => `${axis.name} ${number}`),
        error_y: { type: "data", symmetric: false, array: arms(2), arrayminus: arms(1), thickness: 1.2, width: 3 },
      } });
    };
    const traces = [trace("O_FT, C_Te = 0", "ft_0", colour.ft, "square"),
      trace("O_PT after fine-tuning", "before", colour.pt, "circle"), trace("O_PT after the best reFT", "after", colour.reft, "diamond")];
    const title = fixed.map((own, j) => [own, values[j]]).filter(([own]) => own.values.length > 1).map(([own, value]) => titleOf(own, value)).join(", ");
    const xaxis = { title: { text: axis.name, standoff: 4 }, tickvals: x, ticktext: x.map(String), type: wide ? "log" : "linear" };
    place.children[i].setAttribute("aria-label", `Accuracy against ${axis.name}, ${title}`);
    draw(place.children[i], panel(title, traces, xaxis, { showlegend: false, height: 230, margin: { l: 42, r: 10, t: 32, b: 42 } }));
  }
}

// The table of every answer: rows by the filters, in the order of the heading that was chosen.
function filterAnswers(chapter) {
  const filters = dimensionsOf(chapter.sweep).map((own) => [own, chapter.value(`only_${own.name}`, "all")]);
  const kind = chapter.value("only_kind", "all");
  let count = 0;
  for (const tr of chapter.find("answers").tBodies[0].rows) {
    const row = chapter.sweep.answers[tr.dataset.row];
    tr.hidden = !(filters.every(([own, value]) => value === "all" || own.of(row) === value) && (kind === "all" || row.kind === kind));
    count += !tr.hidden;
  }
  chapter.find("answers-count").textContent = `${count} of ${chapter.sweep.answers.length} rows.`;
}

function sortAnswers(chapter, button) {
  const heading = button.closest("th"), body = chapter.find("answers").tBodies[0];
  const down = heading.getAttribute("aria-sort") === "ascending", { key, kind } = button.dataset;
  for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  const dimension = dimensionsOf(chapter.sweep).find((own) => own.name === key);
  const worth = (tr) => {
    const row = chapter.sweep.answers[tr.dataset.row];
    if (kind === "axis") return dimension.values.indexOf(dimension.of(row));
    const value = Array.isArray(row[key]) ? row[key][0] : row[key];
    return kind === "text" ? value : value === null ? null : Number(value);
  };
  const keyed = [...body.rows].map((tr) => [worth(tr), tr]);
  const sign = down ? -1 : 1; // what is not known stands last either way
  keyed.sort(([a], [b]) => (a === null) - (b === null) || (a < b ? -sign : a > b ? sign : 0));
  body.append(...keyed.map(([, tr]) => tr));
}
