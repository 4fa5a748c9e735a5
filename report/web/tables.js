// What `veneer analyse` found inside the chosen model: pruning, grafting, probes, attention; and labels.

const tables = new Map();

// A packed table as one array per column.
async function tableOf(chapter, name) {
  const packed = chapter.data.tables[name];
  if (!packed) return undefined;
  if (!tables.has(packed)) {
    const { rows, columns } = JSON.parse(new TextDecoder().decode(await inflate(packed)));
    const plain = Object.entries(columns).map(([key, own]) =>
      [key, own.values ?? own.codes.map((code) => own.levels[code])]);
    tables.set(packed, { rows, ...Object.fromEntries(plain) });
  }
  return tables.get(packed);
}

// Rows (as objects) with these values; a list of values means one of them.
function rowsOf(table, wanted) {
  const conditions = Object.entries(wanted).map(([key, value]) => [table[key], [value].flat()]);
  const names = Object.keys(table).filter((name) => name !== "rows");
  const found = [];
  for (let i = 0; i < table.rows; i++) {
    if (conditions.every(([column, values]) => values.includes(column[i]))) {
      found.push(Object.fromEntries(names.map((name) => [name, table[name][i]])));
    }
  }
  return found;
}

const tunedModel = ({ capability, rate, c_tr, seed }) =>
  ({ start: "capability", stage: "fine-tune", capability, fine_tuning_rate: rate, c_tr, seed });

// Says above an analysis why it has nothing on the chosen model, and hides its figures (`places`) then.
function lacking(chapter, name, table, places) {
  const note = chapter.find(`lacking-${name}`), model = chapter.model();
  const there = rowsOf(table, tunedModel(model)).length > 0;
  if (!note) return true; // no capability is written yet
  note.hidden = there;
  note.replaceChildren(...(there ? [] : whyNot(chapter, name, table, model)));
  for (const place of places.map((own) => chapter.find(own)).filter(Boolean)) place.hidden = !there;
  return !there;
}

// The reason, with the command that would look into this model too; it names the models that are there already,
// because a table is made as a whole.
function whyNot(chapter, name, table, model) {
  const cell = chapter.data.attention.cells.find((own) => own.stage === "fine-tune" && own.fine_tuning_rate === model.rate
    && ["capability", "c_tr", "seed"].every((key) => own[key] === model[key]));
  if (!cell) return ["The chosen model is not finished."];
  if (cell.status !== "done") return [`The chosen model has nothing to look into: its fine-tuning ${cell.status}.`];
  const tuned = rowsOf(table, { start: "capability", stage: "fine-tune" });
  const flags = [["capabilities", "capability"], ["rates", "fine_tuning_rate", "rate"], ["c-tr", "c_tr"], ["seeds", "seed"]];
  const words = flags.flatMap(([flag, column, own = column]) => {
    const all = [...(chapter.control(`map_${own}`)?.options ?? [])].map((option) => option.value);
    const wanted = all.filter((value) => value === model[own] || tuned.some((row) => row[column] === value));
    return wanted.length === all.length ? [] : [`--${flag}`, ...wanted]; // none given means all
  });
  const code = document.createElement("code");
  code.textContent = ["veneer analyse", chapter.data.path, ...words, "--only", name, "verdicts"].join(" ");
  return ["The chosen model is not among the analysed models. This looks into it too: ", code];
}

const operandName = { pt: "old task", ft: "new task" };

async function drawPruning(chapter) {
  const table = await tableOf(chapter, "pruning");
  if (!table) return;
  if (lacking(chapter, "pruning", table, ["pruning-pt", "pruning-ft", "classes"])) return;
  const model = tunedModel(chapter.model()), unit = chapter.value("prune_unit", "weight");
  const { seed, ...anySeed } = model;
  for (const operand of ["pt", "ft"]) {
    const all = rowsOf(table, { ...anySeed, unit, operand, texts: "natural" });
    const traces = [];
    const add = (rows, name, color, more) => {
      const sorted = rows.sort((a, b) => a.k - b.k);
      if (!sorted.length) return;
      const text = sorted.map((row) => `${row.k} zeroed`);
      traces.push(line(name, sorted.map((row) => (Number(row.k) || 0.5)), sorted.map((row) => row.accuracy), color, { ...more, trace: { text, ...more.trace } }));
    };
    for (const other of new Set(all.map((row) => row.seed))) {
      if (other === seed) continue;
      const faint = { showlegend: false, opacity: 0.3, mode: "lines" };
      add(all.filter((row) => row.seed === other && row.criterion === "saliency"), `saliency, seed ${other}`, colour[operand], { trace: faint });
    }
    const own = (criterion) => all.filter((row) => row.seed === seed && row.criterion === criterion);
    add(own("random"), "random", colour.before, { dash: "dot", symbol: "diamond" });
    add(own("magnitude"), "largest weights", colour.scratch, { dash: "dash", symbol: "square" });
    add(own("saliency"), "saliency", colour[operand], {});
    const ticks = [1, 2, 5, 10, 20, 50, 100];
    const xaxis = {
      type: "log", tickvals: [0.5, ...ticks], ticktext: ["0", ...ticks], range: [Math.log10(0.4), Math.log10(125)],
      title: { text: `${unit}s zeroed`, standoff: 4 },
    };
    const figure = panel(`Right on the ${operandName[operand]}`, traces, xaxis);
    draw(chapter.find(`pruning-${operand}`), own("saliency").length ? figure : saying(`no ${unit}s were pruned`, { height: 260, xaxis: { visible: false }, yaxis: { visible: false } }));
  }
  await drawClasses(chapter, model, unit);
}

async function drawClasses(chapter, model, unit) {
  const table = await tableOf(chapter, "classes"), k = chapter.value("prune_k", "5");
  const place = chapter.find("classes");
  if (!table || !place) return;
  const at = (number) => rowsOf(table, { ...model, unit, k: number }).sort((a, b) => a.class - b.class);
  const [before, after] = [at("0"), at(k)];
  place.hidden = !before.length; // left out to keep the page small
  if (!before.length) return;
  const words = (row) => chapter.answerName(row.class);
  const bar = (name, rows, key, color) => ({
    type: "bar", name, x: rows.map(words), y: rows.map((row) => row[key]), marker: { color },
    hovertemplate: `${name}<br>answer %{x}: %{y:.1%}<extra></extra>`,
  });
  const data = [
    bar("right for the old task", before, "expected", colour.pt), bar("given, nothing zeroed", before, "share", colour.before),
    bar(`given, ${k} zeroed`, after, "share", colour.tuned),
  ];
  draw(place, panel("Answers given (a pruning that only collapses onto one answer shows here)", data, { type: "category", title: { text: "answer", standoff: 2 } },
    { height: 250, barmode: "group", legend: { orientation: "h", x: 0, y: -0.28, yanchor: "top" } }));
}

// A map of a model's parts: rows are kinds of part, columns blocks.
function byPart(title, cells, key, scale, format) {
  const label = (row) => row.name.replace(/^blocks\.\d+\.?/, "").replace("head.", "head ").replaceAll("_", " ") || "whole block";
  const rows = [...new Set(cells.map(label))];
  const columns = [...new Set(cells.map((row) => row.block))].sort((a, b) => (a === null) - (b === null) || a - b);
  const z = rows.map((name) => columns.map((block) => cells.find((c) => label(c) === name && c.block === block)?.[key] ?? null));
  const heat = {
    type: "heatmap", z, x: columns.map((block) => (block === null ? "outside" : `block ${block}`)), y: rows, ...scale,
    xgap: 2, ygap: 2, colorbar: { thickness: 8, tickformat: format, outlinewidth: 0, len: 0.9 }, hoverongaps: false,
    hovertemplate: `%{y}, %{x}: %{z:${format.replace("0%", "1%")}}<extra></extra>`,
  };
  const layout = {
    height: Math.max(300, 100 + 21 * rows.length), margin: { l: 124, r: 4, t: 34, b: 40 }, showlegend: false,
    yaxis: { autorange: "reversed", fixedrange: true, showgrid: false, ticks: "", tickfont: { size: 11 } },
    xaxis: { fixedrange: true, type: "category", showgrid: false, ticks: "" },
  };
  return panel(title, [heat], {}, layout);
}

async function drawGrafting(chapter) {
  const table = await tableOf(chapter, "grafting");
  if (!table) return;
  if (lacking(chapter, "grafting", table, ["grafting-pt", "grafting-ft", "grafting-k", "grafting-moved"])) return;
  const own = rowsOf(table, tunedModel(chapter.model()));
  const parts = own.filter((row) => !["none", "weight", "weights"].includes(row.level));
  const most = Math.max(0.05, ...parts.map((row) => Math.abs(row.change ?? 0))); // one scale for both panels
  for (const operand of ["pt", "ft"]) {
    const cells = parts.filter((row) => row.operand === operand);
    const scale = { colorscale: [[0, roles.new], [0.5, roles.middle], [1, roles.old]], zmin: -most, zmax: most };
    const figure = byPart(`Change of accuracy on the ${operandName[operand]}`, cells, "change", scale, "+.0%");
    draw(chapter.find(`grafting-${operand}`), figure);
  }
  const moved = await tableOf(chapter, "movement");
  if (moved) {
    const cells = rowsOf(moved, tunedModel(chapter.model())).filter((row) => row.name !== "all");
    const scale = { colorscale: [[0, roles.least], [1, roles.most]], zmin: 0 };
    const figure = byPart("Where weights moved: share of the squared change", cells, "share_of_change", scale, ".0%");
    draw(chapter.find("grafting-moved"), figure);
  }
  const traces = ["pt", "ft"].map((operand) => {
    const rows = own.filter((row) => row.operand === operand && ["none", "weights"].includes(row.level)).sort((a, b) => a.k - b.k);
    return line(operandName[operand], rows.map((row) => Number(row.k) || 0.5), rows.map((row) => row.accuracy), colour[operand],
      { symbol: operand === "pt" ? "circle" : "square", trace: { text: rows.map((row) => `${row.k} weights given back`) } });
  });
  const last = Math.max(10, ...traces.flatMap((t) => t.x));
  const decades = [1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7].filter((k) => k <= last);
  const xaxis = {
    type: "log", tickvals: [0.5, ...decades], ticktext: ["0", ...decades.map((k) => (k >= 1e6 ? `${k / 1e6}M` : k >= 1e3 ? `${k / 1e3}k` : k))],
    title: { text: "weights given back, those most moved first", standoff: 4 },
  };
  draw(chapter.find("grafting-k"), panel("The weights that moved most", traces, xaxis, { height: 380 }));
}

async function drawProbes(chapter) {
  const table = await tableOf(chapter, "probes");
  if (!table) return;
  lacking(chapter, "probes", table, []); // those of the capability and from scratch are there
  const { capability, seed } = chapter.model(), tuned = tunedModel(chapter.model());
  for (const operand of ["pt", "ft"]) {
    const traces = [];
    const add = (name, wanted, color, more = {}, key = "accuracy") => {
      const rows = rowsOf(table, { target: operand, labels: "real", capability, seed, ...wanted }).sort((a, b) => a.residual - b.residual);
      const text = rows.map((row) => (row.residual === "0" ? "after the embedding" : `after block ${row.residual - 1}`));
      if (rows.length) traces.push(line(name, rows.map((row) => Number(row.residual)), rows.map((row) => row[key]), color, { ...more, trace: { text } }));
    };
    add("commonest answer", tuned, roles.guess, { dash: "dot", symbol: "line-ew" }, "majority");
    add("control labels", { ...tuned, labels: "control" }, colour.tuned, { dash: "dot", symbol: "x" });
    add("from scratch on the new task", { start: "scratch", stage: "fine-tune" }, colour.scratch, { dash: "dash", symbol: "triangle-up" });
    add("before fine-tuning", { stage: "capability" }, colour.before, { symbol: "square" });
    add("after fine-tuning", tuned, colour.tuned);
    const xaxis = { dtick: 1, title: { text: "after the embedding (0) and after each block", standoff: 4 } };
    draw(chapter.find(`probes-${operand}`), panel(`Probes for the ${operandName[operand]}'s answer`, traces, xaxis));
  }
}

async function drawAttentionShares(chapter) {
  const table = await tableOf(chapter, "attention");
  if (!table) return;
  const model = chapter.model(), { capability, seed } = model, tuned = tunedModel(model);
  const sources = [
    ["before", "before", { capability, seed, stage: "capability" }],
    ["after fine-tuning", "tuned", tuned],
    ...(model.reft ? [["retrained", "reft", { ...tuned, stage: "reft", learning_rate: model.reft }]] : []),
  ];
  const shape = chapter.data.attention.models[capability]?.shape, heads = shape ? shape[1] : 1;
  const place = (row) => (heads > 1 ? `${row.block}·${row.head}` : `block ${row.block}`);
  for (const operand of ["pt", "ft"]) {
    let uniform;
    const data = sources.map(([name, key, wanted]) => {
      const rows = rowsOf(table, { ...wanted, on: operand, asked: [null, operand] });
      uniform ??= rows[0]?.uniform;
      return {
        type: "bar", name, x: rows.map(place), y: rows.map((row) => row.share), marker: { color: colour[key] },
        text: rows.map((row) => `block ${row.block}, head ${row.head}`), textposition: "none",
        hovertemplate: `${name}<br>%{text}: %{y:.1%}<extra></extra>`,
      };
    });
    const shapes = uniform === undefined || uniform === null ? [] : [{
      type: "line", xref: "paper", x0: 0, x1: 1, y0: uniform, y1: uniform, line: { color: roles.guess, width: 1, dash: "dot" },
    }];
    const xaxis = { type: "category", ...(heads > 1 ? { title: { text: "block·head", standoff: 4 } } : {}) };
    draw(chapter.find(`attention-${operand}`), panel(`On the ${operandName[operand]}'s tokens`, data, xaxis, { barmode: "group", shapes }));
  }
}

function drawLabels(chapter) {
  const labels = chapter.data.labels[chapter.model().capability] ?? Object.values(chapter.data.labels)[0];
  if (!labels) return;
  for (const operand of ["pt", "ft"]) {
    const data = ["0", "1"].map((c_tr) => ({
      type: "bar", name: `shortcut share ${c_tr}`, x: labels.answers, y: labels.shares[operand][c_tr],
      marker: { color: c_tr === "0" ? colour.tuned : colour.reft },
      hovertemplate: `shortcut share ${c_tr}<br>answer %{x}: %{y:.1%}<extra></extra>`,
    }));
    const yaxis = { tickformat: ".0%", gridcolor: roles.grid, fixedrange: true };
    draw(chapter.find(`labels-${operand}`), panel(`Right answers for the ${operandName[operand]}`, data, { type: "category" }, { barmode: "group", yaxis }));
  }
}
