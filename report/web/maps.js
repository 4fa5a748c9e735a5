// Attention and activations of one model, before fine-tuning, after it, and after reFT.

const moments = ["before", "tuned", "reft"];
const tokenWidth = 7, stripHeight = 24; // pixels of a token and of a head in strips; the height as Python has it

function momentsOf(chapter) {
  const { attention } = chapter.data;
  const chosen = chapter.model();
  const about = (cell) => ["capability", "c_tr", "seed"].every((key) => cell[key] === chosen[key])
    && cell.fine_tuning_rate === chosen.rate;
  const cells = attention.cells.filter(about);
  const tuned = cells.find((cell) => cell.stage === "fine-tune");
  const reft = cells.find((cell) => cell.stage === "reft" && cell.learning_rate === chosen.reft);
  const mark = (cell) => (cell && cell.status !== "done" ? `, ${cell.status}` : "");
  const missing = Number(chosen.reft) > Number(chosen.rate) ? "not run: this rate of retraining exceeds the rate of fine-tuning"
    : tuned && tuned.status !== "done" ? `not run: fine-tuning ${tuned.status}` : "not finished";
  const known = (id, why) => (id && id in attention.maps ? [id, ""] : [undefined, id ? "not shown: left out, or its weights are not finite" : why]);
  return [
    ["Before fine-tuning", ...known(`${chosen.capability}-seed-${chosen.seed}`, "not finished")],
    [`After fine-tuning at ${chosen.rate}${mark(tuned)}`, ...known(tuned?.cell, "not finished")],
    [`Retrained at ${chosen.reft}${mark(reft)}`, ...known(reft?.cell, missing)],
  ];
}

// One head's map as rows of shares.
async function mapOf(maps, shape, input, block, head) {
  const [, heads, queries, keys] = shape;
  const levels = await inflate(maps[input] ?? maps.example);
  const start = (block * heads + head) * queries * keys;
  return Array.from({ length: queries }, (_, q) =>
    Array.from(levels.subarray(start + q * keys, start + (q + 1) * keys), (level) => level / 255));
}

// The answer's row of every head, which is all that is kept of long texts.
async function stripsOf(maps, shape, input, block) {
  const rows = await Promise.all(Array.from({ length: shape[1] }, (_, head) => mapOf(maps, shape, input, block, head)));
  return rows.map(([row]) => row);
}

// A figure of one strip as one of a strip per head, with the chosen head framed.
function asStrips(figure, heads, chosen) {
  const [heat] = figure.data, numbers = Array.from({ length: heads }, (_, head) => head);
  Object.assign(heat, { y: numbers, customdata: numbers.map(() => heat.customdata[0]) });
  Object.assign(figure.layout.yaxis, { tickvals: numbers, ticktext: numbers.map(String) });
  figure.layout.height += stripHeight * (heads - 1);
  const edges = { x0: -0.5, x1: heat.x.length - 0.5, y0: chosen - 0.5, y1: chosen + 0.5 };
  if (heads > 1) figure.layout.shapes = [{ type: "rect", ...edges, line: { color: roles.after, width: 2 } }];
}

// Strips lie below each other, with room for the tokens; where there is too little, all scroll together.
function layMaps(chapter, strips, tokens) {
  const width = `minmax(${tokenWidth * tokens + 60}px, 1fr)`;
  for (const place of moments.map((moment) => chapter.find(`units-${moment}`)).filter(Boolean)) {
    place.style.minHeight = strips ? "0" : "";
  }
  for (const place of moments.map((moment) => chapter.find(`map-${moment}`))) {
    place.style.minHeight = strips ? "0" : "";
    const layout = strips ? { gridTemplateColumns: width, overflowX: "auto" } : { gridTemplateColumns: "", overflowX: "" };
    Object.assign(place.closest(".maps").style, layout);
  }
}

// What a place says that has no map: the reason, without the map's axes.
function absent(why, layout) {
  return saying(why, { height: layout.height, margin: layout.margin, xaxis: { visible: false }, yaxis: { visible: false } });
}

async function unitsOf(maps, positions, channels) {
  const levels = await inflate(maps.mlp);
  const [low, high] = maps.mlp_range;
  return Array.from({ length: positions }, (_, q) =>
    Array.from(levels.subarray(q * channels, (q + 1) * channels), (level) => low + ((high - low) * level) / 255));
}

async function drawMaps(chapter) {
  const { attention } = chapter.data;
  const model = attention?.models[chapter.model().capability];
  if (!model) return;
  fill(chapter.control("map_block"), model.shape[0]);
  fill(chapter.control("map_head"), model.shape[1]);
  const block = Number(chapter.value("map_block", "0")), head = Number(chapter.value("map_head", "0"));
  const input = chapter.value("map_input", "example");
  const found = momentsOf(chapter);
  const bars = structuredClone(model.token_figure), strips = model.shape[2] === 1;
  layMaps(chapter, strips, model.tokens.length);
  for (const kind of ["map", "units"]) {
    const last = chapter.find(`${kind}-reft`)?.closest("figure");
    if (last) last.hidden = !chapter.model().reft; // a run without reFT
  }
  const read = ([, id]) => (id ? (strips ? stripsOf : mapOf)(attention.maps[id], model.shape, input, block, head) : undefined);
  const shares = await Promise.all(found.map(read));
  // Of many tokens each has little: a strip's scale ends at the greatest share, and the caption tells where.
  const most = strips ? Math.max(0.1, ...shares.filter(Boolean).flat(2)) : 1;
  for (const [i, [title, id, missing]] of found.entries()) {
    if (moments[i] === "reft" && !chapter.model().reft) continue;
    const maps = id && attention.maps[id];
    chapter.find(`caption-${moments[i]}`).textContent = `${title}, block ${block}${model.shape[1] > 1 && !strips ? `, head ${head}` : ""}`
      + (strips && maps ? ` (scale to ${(100 * most).toFixed(0)} %)` : "");
    const figure = structuredClone(model.map_figure);
    figure.layout.margin.t = 8;
    if (strips) asStrips(figure, model.shape[1], head);
    Object.assign(figure.data[0], { z: shares[i] ?? figure.data[0].z, zmax: most });
    draw(chapter.find(`map-${moments[i]}`), maps ? figure : absent(missing, figure.layout));
    if (bars.data[i]) bars.data[i].y = maps ? maps.by_token[block][head] : [];
  }
  if (!chapter.model().reft) bars.data.length = 2;
  draw(chapter.find("by-token"), bars);
  link(chapter, moments.map((moment) => chapter.find(`map-${moment}`)).filter((place) => place.on));
  if (model.channels.length) await drawUnits(chapter, model, found);
}

async function drawUnits(chapter, model, found) {
  const all = found.map(([, id]) => id && chapter.data.attention.maps[id]).map((maps) => (maps?.mlp ? maps : undefined));
  const ends = all.filter(Boolean).map((maps) => maps.mlp_range);
  const [low, high] = [Math.min(...ends.map((e) => e[0])), Math.max(...ends.map((e) => e[1]))];
  const values = await Promise.all(all.map((maps) => maps && unitsOf(maps, model.shape[2], model.channels.length)));
  chapter.find("units-count").textContent = `${alive(values, high).length} of ${model.channels.length}; the others are silent here.`;
  for (const [i, maps] of all.entries()) {
    if (moments[i] === "reft" && !chapter.model().reft) continue;
    const figure = structuredClone(model.activation_figure);
    figure.layout.margin.t = 8;
    const [heat] = figure.data, keep = alive(values, high);
    if (maps) heat.z = values[i].map((row) => keep.map((unit) => row[unit]));
    Object.assign(heat, { zmin: low, zmax: high, x: keep.map((_, place) => place), customdata: heat.customdata.map((row) => keep.map((unit) => row[unit])) });
    Object.assign(figure.layout.xaxis, { tickvals: heat.x, ticktext: keep.map((unit) => figure.layout.xaxis.ticktext[unit]) });
    for (const shape of figure.layout.shapes) shape.x1 = keep.length - 0.5;
    draw(chapter.find(`units-${moments[i]}`), maps ? figure : absent(found[i][2] || "not stored", figure.layout));
  }
}

// The units that say anything at any position of any of the maps; columns of zeros only take room.
function alive(values, high) {
  const seen = values.filter(Boolean);
  const all = Array.from(seen[0]?.[0] ?? [], (_, unit) => unit);
  const loud = all.filter((unit) => seen.some((rows) => rows.some((row) => Math.abs(row[unit]) > 0.01 * high)));
  return loud.length ? loud : all;
}

// Capabilities may have different numbers of blocks and heads.
function fill(control, number) {
  if (!control || control.options.length === number) return;
  const value = control.value;
  control.replaceChildren(...Array.from({ length: number }, (_, i) => new Option(i, i)));
  control.value = Number(value) < number ? value : "0";
}

// Pointing at a cell of one map shows the same cell of the others.
function link(chapter, places) {
  if (chapter.linked) return;
  chapter.linked = true;
  let busy = false;
  const others = (place) => places.filter((other) => other !== place && other.data?.length);
  for (const place of places) {
    place.on("plotly_hover", (event) => {
      if (busy) return;
      busy = true;
      const { x, y } = event.points[0];
      for (const other of others(place)) Plotly.Fx.hover(other, { xval: x, yval: y }); // heatmaps want values
      busy = false;
    });
    place.on("plotly_unhover", () => {
      if (busy) return;
      busy = true;
      for (const other of others(place)) Plotly.Fx.unhover(other);
      busy = false;
    });
  }
}
