// Accuracy against updates: of each figure the traces that the section's controls ask for.

// A trace is shown if its meta has the chosen value of every control that it is about.
function shown(trace, filters) {
  return filters.every(([key, value]) => {
    const own = trace.meta?.[key];
    return !own || own.includes(value) || (value === "all" && key !== "seed");
  });
}

function drawCurves(chapter, section) {
  const filters = [...section.querySelectorAll("select[data-filter]")].map((c) => [c.dataset.filter, c.value]);
  const chosen = Object.fromEntries(filters);
  for (const part of section.querySelectorAll("[data-row]")) {
    part.hidden = chosen.row !== "all" && part.dataset.row !== chosen.row;
  }
  for (const part of section.querySelectorAll("[data-threshold]")) {
    part.hidden = part.dataset.threshold !== chosen.threshold;
  }
  for (const place of section.querySelectorAll(".plot")) {
    if (place.closest("[hidden]")) continue;
    const figure = chapter.data.figures[place.dataset.figure];
    const traces = figure.data.filter((trace) => shown(trace, filters));
    if (!traces.some((trace) => trace.meta && !trace.meta.level)) {
      draw(place, saying("nothing at this choice", figure.layout));
      continue;
    }
    const controls = place.dataset.controls ? chapter.data.controls.filter((trace) => shown(trace, filters)) : [];
    draw(place, { data: [...controls, ...traces], layout: figure.layout });
  }
}
