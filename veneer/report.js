"use strict";
// Shows of each figure what the controls ask for, and keeps their state in the address, so that a
// link restores it. Figures come from Python; nothing is loaded.

const data = JSON.parse(document.getElementById("data").textContent);
const controls = [...document.querySelectorAll("select")];
const defaults = Object.fromEntries(controls.map((c) => [c.id, c.value]));
const night = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 600px)");
const config = {
  responsive: true, displaylogo: false,
  modeBarButtons: [["toImage"]], toImageButtonOptions: { format: "svg" },
};
// Light colours of the figures, and what they become on a dark page.
const darker = {
  "#0072B2": "#56B4E9", "#D55E00": "#F0904D", "#DDDDDD": "#343B44", "#999999": "#9AA3AD",
  "#F2EFFA": "#241A35", "#3F007D": "#F2EFFA", "#8C6BB1": "#B79BDB",
};
const paper = 700; // width of a printed page, in pixels
let printing = false;

const recolour = (text) =>
  night.matches && !printing ? text.replace(/#[0-9A-F]{6}/g, (c) => darker[c] ?? c) : text;

function draw(place, figure, change = () => {}) {
  const copy = JSON.parse(recolour(JSON.stringify(figure)));
  const ink = getComputedStyle(document.documentElement).getPropertyValue(printing ? "--print-ink" : "--ink");
  Object.assign(copy.layout, {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true,
    modebar: { bgcolor: "rgba(0,0,0,0)", color: "#8A929C", activecolor: ink },
    font: { color: ink || "#000", family: getComputedStyle(document.body).fontFamily, size: 12 },
  });
  if (printing) copy.layout.width = place.classList.contains("wide-plot") ? paper : paper / 2 - 10;
  change(copy);
  Plotly.react(place, copy.data, copy.layout, { ...config, displayModeBar: !narrow.matches && !printing });
}

// A trace is shown if its meta has the chosen value of every control that it is about.
function shown(trace, filters) {
  return filters.every(([key, value]) => {
    const own = trace.meta?.[key];
    return !own || own.includes(value) || (value === "all" && key !== "seed");
  });
}

function drawSection(section) {
  const filters = [...section.querySelectorAll("select[data-filter]")].map((c) => [c.dataset.filter, c.value]);
  const row = filters.find(([key]) => key === "row")?.[1];
  for (const part of section.querySelectorAll("[data-row]")) part.hidden = row !== "all" && part.dataset.row !== row;
  for (const place of section.querySelectorAll(".plot")) {
    if (place.closest("[hidden]")) continue;
    draw(place, data.figures[place.dataset.figure], (figure) => {
      figure.data = figure.data.filter((trace) => shown(trace, filters));
      if (!figure.data.some((trace) => trace.meta)) note(figure, "nothing at this choice");
      if (narrow.matches) Object.assign(figure.layout.margin, { l: 34, r: 4 });
    });
  }
}

function note(figure, text) {
  figure.data = [];
  figure.layout.shapes = [];
  figure.layout.annotations = [{
    text, x: 0.5, y: 0.5, xref: "paper", yref: "paper", showarrow: false, font: { size: 13 },
  }];
}

// Kept, because a page about to be printed cannot wait for the inflating.
const inflated = new Map();

async function inflate(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// One head's map as rows of shares.
async function mapOf(id, block, head) {
  const [, heads, size] = data.attention.shape;
  if (!inflated.has(id)) inflated.set(id, await inflate(data.attention.maps[id].example));
  const levels = inflated.get(id);
  const start = (block * heads + head) * size * size;
  return Array.from({ length: size }, (_, q) =>
    Array.from(levels.subarray(start + q * size, start + (q + 1) * size), (level) => level / 255));
}

function moments(chosen) {
  const about = (cell) => cell.fine_tuning_rate === chosen.rate && cell.c_tr === chosen.c_tr && cell.seed === chosen.seed;
  const cells = data.attention.cells.filter(about);
  const tuned = cells.find((cell) => cell.stage === "fine-tune");
  const reft = cells.find((cell) => cell.stage === "reft" && cell.learning_rate === chosen.reft);
  const mark = (cell) => (cell && cell.status !== "done" ? `, ${cell.status}` : "");
  const missing = Number(chosen.reft) > Number(chosen.rate) ? "not run: this reFT rate exceeds the rate of fine-tuning"
    : tuned && tuned.status !== "done" ? `not run: fine-tuning ${tuned.status}` : "not finished";
  const seed = `seed-${chosen.seed}`;
  return [
    ["before", "Before fine-tuning", seed in data.attention.maps ? seed : undefined, "not finished"],
    ["tuned", `After fine-tuning at ${chosen.rate}${mark(tuned)}`, tuned?.cell, "not finished"],
    ["reft", `After reFT at ${chosen.reft}${mark(reft)}`, reft?.cell, missing],
  ];
}

async function drawAttention() {
  if (!data.attention) return;
  const value = (name) => document.getElementById(`map_${name}`)?.value ?? "0";
  const chosen = { rate: value("rate"), c_tr: value("c_tr"), seed: value("seed"), reft: value("reft") };
  const [block, head] = [Number(value("block")), Number(value("head"))];
  const found = moments(chosen);
  for (const [moment, title, id, missing] of found) {
    document.getElementById(`caption-${moment}`).textContent = `${title}, block ${block}`;
    const z = id && (await mapOf(id, block, head));
    draw(document.getElementById(`map-${moment}`), data.attention.map_figure, (figure) => {
      if (z) figure.data[0].z = z;
      else note(figure, missing);
      figure.layout.margin.t = 8;
    });
  }
  draw(document.getElementById("by-token"), data.attention.token_figure, (figure) => {
    figure.data.forEach((bar, i) => { bar.y = found[i][2] ? data.attention.maps[found[i][2]].by_token[block][head] : []; });
  });
}

function drawAll() {
  for (const key of document.querySelectorAll("[data-colour]")) key.style.color = recolour(key.dataset.colour);
  for (const id of ["behaviour", "revival"]) drawSection(document.getElementById(id));
  return drawAttention();
}

function readAddress() {
  const state = new URLSearchParams(location.hash.slice(1));
  for (const control of controls) {
    const wanted = state.get(control.id) ?? defaults[control.id];
    control.value = [...control.options].some((o) => o.value === wanted) ? wanted : defaults[control.id];
  }
}

function writeAddress() {
  const state = new URLSearchParams();
  for (const control of controls) if (control.value !== defaults[control.id]) state.set(control.id, control.value);
  history.replaceState(null, "", `#${state}`);
}

for (const control of controls) {
  control.addEventListener("change", () => {
    writeAddress();
    const section = control.closest("section");
    if (section.id === "inside") drawAttention();
    else drawSection(section);
  });
}
for (const form of document.querySelectorAll("form")) form.addEventListener("submit", (e) => e.preventDefault());
addEventListener("hashchange", () => { if (location.hash.includes("=")) { readAddress(); drawAll(); } });
night.addEventListener("change", drawAll);
addEventListener("beforeprint", () => { printing = true; drawAll(); });
addEventListener("afterprint", () => { printing = false; drawAll(); });
if (location.hash.includes("=")) readAddress();
drawAll().then(() => { document.body.dataset.ready = "yes"; });
