// Accuracy against updates: of each figure the traces that the section's controls ask for.

// A trace is shown if its meta has the chosen value of every control that it is about.
function shown(trace, filters) {
  return filters.every(([key, value]) => {
    const own = trace.meta?.[key];
    return !own || own.includes(value) || (value === "all" && key !== "seed");
  });
}

// A model from scratch is shown beside what it is held against: at the rates of retraining that the panel shows.
function beside(trace, filters, traces) {
  const rates = new Set(traces.flatMap((own) => own.meta?.reft ?? []));
  return filters.every(([key, value]) =>
    (key === "reft" && value !== "all" ? trace.meta.reft.some((rate) => rates.has(rate)) : shown(trace, [[key, value]])));
}

// Of the legend what the panels show.
function filterLegend(section, traces) {
  for (const key of section.querySelectorAll("[data-of]")) {
    key.hidden = !traces.some((trace) => trace.meta?.[key.dataset.of]?.includes(key.dataset.is));
  }
}

// The choices that the button "Show all" makes at once.
const wide = (section) => [...section.querySelectorAll("select[data-filter]")].filter((c) => ["c_tr", "reft"].includes(c.dataset.filter));

function showAll(chapter, section) {
  const controls = wide(section), all = controls.every((control) => control.value === "all");
  for (const control of controls) {
    control.value = all ? defaults[control.id] : "all";
    chapter.chosen.set(control.id, control.value);
  }
  writeAddress();
  return chapter.draw([section.dataset.section]);
}

// Of the table of updates the rows that the section's controls ask for.
function filterTimes(chapter, part, chosen) {
  const rows = [...part.querySelectorAll("tbody tr")];
  for (const row of rows) {
    row.hidden = ["capability", "c_tr", "reft"].some((key) => ![undefined, "all", ...row.dataset[key].split(" ")].includes(chosen[key]));
  }
  const seen = rows.filter((row) => !row.hidden).length;
  const count = seen === rows.length ? `All ${seen} rows.` : `${seen} of ${rows.length} rows: those that the choices of this section leave.`;
  chapter.find("times-count").textContent = count;
}

function drawCurves(chapter, section) {
  const filters = [...section.querySelectorAll("select[data-filter]")].map((c) => [c.dataset.filter, c.value]);
  const chosen = Object.fromEntries(filters), seen = [];
  const button = section.querySelector(".show-all");
  if (button) button.textContent = wide(section).every((control) => control.value === "all") ? "Show one share and rate" : "Show all";
  for (const part of section.querySelectorAll("[data-row]")) {
    part.hidden = chosen.row !== "all" && part.dataset.row !== chosen.row;
  }
  for (const part of section.querySelectorAll("[data-threshold]")) {
    part.hidden = part.dataset.threshold !== chosen.threshold;
    if (!part.hidden) filterTimes(chapter, part, chosen);
  }
  for (const place of section.querySelectorAll(".plot")) {
    if (place.closest("[hidden]")) continue;
    const figure = chapter.data.figures[place.dataset.figure];
    if (place.classList.contains("lead-plot")) { // all of it, whatever is chosen
      draw(place, figure);
      continue;
    }
    const traces = figure.data.filter((trace) => shown(trace, filters));
    seen.push(...traces);
    if (!traces.some((trace) => trace.meta && !trace.meta.level)) {
      draw(place, saying("nothing at this choice", figure.layout));
      continue;
    }
    const controls = place.dataset.controls ? chapter.data.controls.filter((trace) => beside(trace, filters, traces)) : [];
    draw(place, { data: [...controls, ...traces], layout: figure.layout });
  }
  filterLegend(section, seen);
}
