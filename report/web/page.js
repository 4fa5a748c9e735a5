// Chapters (one per run or sweep), their controls, and the address, which keeps every choice so that a link
// restores it. Of a sweep one point is on the page at a time; the others lie deflated in the page's data.

const POINT = ["answer", "behaviour", "revival", "samples", "inside", "methods"]; // the sections with figures of a run or a point
const SWEEP = ["every", "point", "overview", ...POINT];

class Chapter {
  constructor(root) {
    this.root = root;
    this.prefix = root.dataset.prefix;
    this.data = page[this.prefix];
    this.sweep = this.data.sweep; // of a sweep: axes, answers, and the points
    this.at = undefined; // the point that is on the page
    this.linked = false;
    this.chosen = new Map(); // what the reader or a link chose, by control: another point keeps it
  }
  get controls() { return [...this.root.querySelectorAll("select")]; }
  find(name) { return document.getElementById(this.prefix + name); }
  control(name) { return document.getElementById(this.prefix + name); }
  value(name, otherwise = "") { return this.control(name)?.value || otherwise; }
  section(name) { return this.find(name); }
  model() {
    const names = Object.keys(this.data.attention?.models ?? {});
    const [rate, c_tr, seed, reft] = ["rate", "c_tr", "seed", "reft"].map((name) => this.value(`map_${name}`));
    return { capability: this.value("map_capability", names[0]), rate, c_tr, seed: seed || "0", reft };
  }
  answerName(code) {
    return this.data.attention?.models[this.model().capability]?.answers?.[code] ?? code;
  }
  // The point that the pickers name: its place in the grid, the last axis fastest.
  chosenPoint() {
    return Object.entries(this.sweep.axes).reduce((place, [name, values]) => place * values.length + values.indexOf(this.value(`at_${name}`)), 0);
  }
  choosePoint(place) {
    for (const [name, values] of Object.entries(this.sweep.axes).reverse()) {
      this.control(`at_${name}`).value = values[place % values.length];
      place = Math.floor(place / values.length);
    }
  }
  // Puts the chosen point on the page; choices that it has too are kept.
  async mount() {
    const at = this.sweep && this.chosenPoint();
    if (at === this.at) return;
    this.at = at;
    const { markup, ...data } = JSON.parse(new TextDecoder().decode(await inflate(this.sweep.points[at])));
    if (this.at !== at) return; // another was chosen meanwhile
    const slot = this.root.querySelector("[data-slot]");
    const unfolded = [...slot.querySelectorAll("details.fold[open]")].map((fold) => fold.parentElement.dataset.section);
    for (const place of slot.querySelectorAll(".js-plotly-plot")) Plotly.purge(place);
    slot.innerHTML = markup;
    this.data = { ...data, sweep: this.sweep };
    for (const name of unfolded) unfold(this.section(name)); // what was open stays open
    this.linked = false;
    for (const control of slot.querySelectorAll("select")) {
      defaults[control.id] = control.value;
      set(control, this.chosen.get(control.id));
    }
  }
  // What each section's drawing consists of; figures wait for Plotly.
  steps() {
    const figure = (make) => async () => { await plotly(); return make(this); };
    const curves = (name) => figure(() => drawCurves(this, this.section(name)));
    const inside = [drawMaps, drawAttentionShares, drawPruning, drawGrafting, drawProbes].map(figure);
    const run = { answer: [curves("answer")], samples: [() => drawSamples(this)], behaviour: [curves("behaviour")], revival: [curves("revival")], inside, methods: [figure(drawLabels)] };
    if (!this.sweep) return run;
    const overview = [() => drawSweep(this), figure(drawLines)], every = [() => filterAnswers(this)];
    return { overview, every, point: [() => this.mount()], ...run };
  }
  async draw(names = this.sweep ? SWEEP : POINT) {
    const steps = this.steps(), of = names.includes("point") ? undefined : this.at;
    labelCards(this.root);
    const seen = (name) => !folded(this.section(name)); // asked when its turn comes: a point's is mounted then
    for (const [name, step] of names.flatMap((name) => (steps[name] ?? []).map((step) => [name, step]))) {
      if (!seen(name)) continue;
      await step();
      for (const key of this.root.querySelectorAll("[data-colour]")) key.style.color = recolour(key.dataset.colour);
      if (of !== undefined && this.at !== of) return; // what was asked for is of a point that is gone
      if (!printing) await new Promise((resume) => setTimeout(resume)); // the page answers in between
    }
  }
}

const chapters = [...document.querySelectorAll("article")].map((root) => new Chapter(root));
const defaults = Object.fromEntries(chapters.flatMap((chapter) => chapter.controls).map((c) => [c.id, c.value]));
let open = chapters[0];

function set(control, wanted) {
  control.value = [...control.options].some((o) => o.value === wanted) ? wanted : defaults[control.id];
}

async function readAddress() {
  const state = new URLSearchParams(location.hash.slice(1));
  for (const chapter of chapters) chapter.chosen = new Map(state);
  const read = () => {
    for (const control of chapters.flatMap((chapter) => chapter.controls)) set(control, state.get(control.id));
  };
  read();
  const wanted = chapters[Number(state.get("run") ?? 1) - 1] ?? chapters[0];
  await wanted.mount();
  read(); // also the controls of the point
  for (const control of wanted.controls) if (control.value !== defaults[control.id]) unfold(control.closest("section"));
  return show(wanted);
}

function writeAddress() {
  const state = new URLSearchParams();
  if (open !== chapters[0]) state.set("run", chapters.indexOf(open) + 1);
  for (const control of chapters.flatMap((chapter) => chapter.controls)) {
    if (control.value !== defaults[control.id]) state.set(control.id, control.value);
  }
  history.replaceState(null, "", `#${state}`);
}

function show(chapter) {
  open = chapter;
  for (const other of chapters) other.root.hidden = other !== chapter;
  for (const tab of document.querySelectorAll("[data-chapter]")) {
    if (tab.dataset.chapter === chapter.prefix) tab.setAttribute("aria-current", "true");
    else tab.removeAttribute("aria-current");
  }
  return chapter.draw();
}

function goTo(section) {
  unfold(section);
  if (section.tagName === "DETAILS") section.open = true;
  section.scrollIntoView();
  section.setAttribute("tabindex", "-1");
  section.focus({ preventScroll: true });
}

async function pick(chapter, { point, capability, rate, c_tr }) {
  const wanted = [
    [["capability", "back_capability", "look_capability", "map_capability"], capability],
    [["c_tr", "back_c_tr", "look_c_tr", "map_c_tr"], c_tr], [["look_rate", "map_rate"], rate],
  ];
  if (chapter.sweep && point !== undefined) {
    chapter.choosePoint(Number(point));
    await chapter.mount();
  }
  for (const [names, value] of wanted) {
    for (const control of names.map((name) => chapter.control(name)).filter(Boolean)) {
      control.value = value;
      chapter.chosen.set(control.id, value);
    }
  }
  writeAddress();
  unfold(chapter.section("inside"));
  chapter.draw(POINT);
  goTo(chapter.section(point === undefined ? "inside" : "point"));
}

// Listeners stand on the document, because a point's controls come and go.
const chapterOf = (element) => chapters.find((chapter) => chapter.root.contains(element));

document.addEventListener("change", async ({ target }) => {
  const chapter = chapterOf(target);
  if (!chapter || target.tagName !== "SELECT") return;
  chapter.chosen.set(target.id, target.value);
  const { section } = target.closest("section").dataset;
  if (section === "point") await chapter.mount();
  writeAddress();
  chapter.draw(section === "point" ? POINT : [section]);
});
document.addEventListener("click", (event) => {
  const at = (selector) => event.target.closest?.(selector);
  const chapter = chapterOf(event.target);
  const tab = at("[data-chapter]"), anchor = at("header nav a, a.up, a.term, a.again-link"), button = at("button.pick"), heading = at("button.sort"), all = at("button.show-all");
  if (button) pick(chapter, button.dataset);
  if (heading) sortAnswers(chapter, heading);
  if (all) showAll(chapter, all.closest("section"));
  if (anchor) { // links to a section keep the choice: they scroll without becoming the address
    event.preventDefault();
    goTo(document.getElementById(anchor.getAttribute("href").slice(1)));
  }
  if (tab) {
    event.preventDefault();
    show(chapters.find((own) => own.prefix === tab.dataset.chapter));
    writeAddress();
    scrollTo(0, 0);
  }
});
document.addEventListener("submit", (event) => event.preventDefault());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  goTo(open.section(open.sweep ? "overview" : "answer"));
});
addEventListener("hashchange", () => { if (location.hash.includes("=")) readAddress(); });
night.addEventListener("change", () => open.draw());
narrow.addEventListener("change", () => open.draw());
addEventListener("beforeprint", () => { printing = true; open.draw(); });
addEventListener("afterprint", () => { printing = false; open.draw(); });
(location.hash.includes("=") ? readAddress() : show(chapters[0])).then(() => {
  performance.mark("drawn"); // all figures too
  document.body.dataset.ready = "yes";
});
