// Chapters (one per run), their controls, and the address, which keeps every choice so that a link restores it.

class Chapter {
  constructor(root) {
    this.root = root;
    this.prefix = root.dataset.prefix;
    this.data = page[this.prefix];
    this.controls = [...root.querySelectorAll("select")];
    this.linked = false;
  }
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
  steps() {
    const curves = (name) => () => drawCurves(this, this.section(name));
    const inside = [drawMaps, drawAttentionShares, drawPruning, drawGrafting, drawProbes].map((f) => () => f(this));
    return { behaviour: [curves("behaviour")], revival: [curves("revival")], inside, methods: [() => drawLabels(this)] };
  }
  async draw(names = ["behaviour", "revival", "inside", "methods"]) {
    for (const key of this.root.querySelectorAll("[data-colour]")) key.style.color = recolour(key.dataset.colour);
    const steps = this.steps();
    for (const step of names.flatMap((name) => steps[name] ?? [])) {
      await step();
      if (!printing) await new Promise((resume) => setTimeout(resume)); // the page answers in between
    }
  }
}

const chapters = [...document.querySelectorAll("article")].map((root) => new Chapter(root));
const controls = chapters.flatMap((chapter) => chapter.controls);
const defaults = Object.fromEntries(controls.map((c) => [c.id, c.value]));
let open = chapters[0];

function readAddress() {
  const state = new URLSearchParams(location.hash.slice(1));
  for (const control of controls) {
    const wanted = state.get(control.id) ?? defaults[control.id];
    control.value = [...control.options].some((o) => o.value === wanted) ? wanted : defaults[control.id];
  }
  return show(chapters[Number(state.get("run") ?? 1) - 1] ?? chapters[0]);
}

function writeAddress() {
  const state = new URLSearchParams();
  if (open !== chapters[0]) state.set("run", chapters.indexOf(open) + 1);
  for (const control of controls) if (control.value !== defaults[control.id]) state.set(control.id, control.value);
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
  section.scrollIntoView();
  section.setAttribute("tabindex", "-1");
  section.focus({ preventScroll: true });
}

for (const chapter of chapters) {
  for (const control of chapter.controls) {
    control.addEventListener("change", () => {
      writeAddress();
      chapter.draw([control.closest("section").dataset.section]);
    });
  }
  for (const button of chapter.root.querySelectorAll("button.pick")) {
    button.addEventListener("click", () => {
      for (const [names, value] of [
        [["capability", "back_capability", "map_capability"], button.dataset.capability],
        [["c_tr", "map_c_tr"], button.dataset.c_tr], [["map_rate"], button.dataset.rate],
      ]) {
        for (const control of names.map((name) => chapter.control(name)).filter(Boolean)) control.value = value;
      }
      writeAddress();
      chapter.draw();
      goTo(chapter.section("inside"));
    });
  }
}
for (const tab of document.querySelectorAll("[data-chapter]")) {
  tab.addEventListener("click", (event) => {
    event.preventDefault();
    show(chapters.find((chapter) => chapter.prefix === tab.dataset.chapter));
    writeAddress();
    scrollTo(0, 0);
  });
}
for (const form of document.querySelectorAll("form")) form.addEventListener("submit", (e) => e.preventDefault());
// Links to a section keep the choice: they scroll without becoming the address.
for (const anchor of document.querySelectorAll("header nav a")) {
  anchor.addEventListener("click", (event) => {
    event.preventDefault();
    goTo(document.getElementById(anchor.getAttribute("href").slice(1)));
  });
}
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  goTo(open.section("answer"));
});
addEventListener("hashchange", () => { if (location.hash.includes("=")) readAddress(); });
night.addEventListener("change", () => open.draw());
narrow.addEventListener("change", () => open.draw());
addEventListener("beforeprint", () => { printing = true; open.draw(); });
addEventListener("afterprint", () => { printing = false; open.draw(); });
(location.hash.includes("=") ? readAddress() : show(chapters[0])).then(() => { document.body.dataset.ready = "yes"; });
