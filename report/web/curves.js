// Accuracy against updates: of each figure the traces that the section's controls ask for.

// A trace is shown if its meta has the chosen value of every control that it is about.
function shown(trace, filters) {
  return filters.every(([key, value]) => {
    const own = trace.meta?.[key];
    return !own || own.includes(value) || (value === "all" && key !== "seed");
  });
}

// Of the table of updates the rows of the model and retraining rate that the section's controls ask for.
function filterTimes(chapter, part, chosen) {
  const rows = [...part.querySelectorAll("tbody tr")];
  for (const row of rows) {
    row.hidden = ["capability", "reft"].some((key) => ![undefined, "all", row.dataset[key]].includes(chosen[key]));
  }
  const seen = rows.filter((row) => !row.hidden).length;
  const count = seen === rows.length ? `All ${seen} rows.` : `${seen} of ${rows.length} rows: those that the choices of this section leave.`;
  chapter.find("times-count").textContent = count;
}

function drawCurves(chapter, section) {
  const filters = [...section.querySelectorAll("select[data-filter]")].map((c) => [c.dataset.filter, c.value]);
  const chosen = Object.fromEntries(filters);
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
    if (!traces.some((trace) => trace.meta && !trace.meta.level)) {
      draw(place, saying("nothing at this choice", figure.layout));
      continue;
    }
    const controls = place.dataset.controls ? chapter.data.controls.filter((trace) => shown(trace, filters)) : [];
    draw(place, { data: [...controls, ...traces], layout: figure.layout });
  }
}
