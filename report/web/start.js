"use strict";
// Data of the page, and how a figure is put on it: by day, by night, on a phone and on paper. Figures of
// curves come from Python, those of one model's inside are made here; nothing is loaded.

const page = JSON.parse(document.getElementById("data").textContent);
const night = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 600px)");
const config = {
  responsive: true, displaylogo: false,
  modeBarButtons: [["toImage"]], toImageButtonOptions: { format: "svg" },
};
// Python's colours.py fixes colours by their roles (`roles`), and what they become by night (`darker`).
const colour = { // the same by the names used here
  pt: roles.old, ft: roles.new, before: roles.before, tuned: roles.after, reft: roles.revived, scratch: roles["scratch-new"],
};
const printedWidth = 700; // of a page, in pixels
let printing = false;

// Plotly is most of the file, so it is evaluated once what needs no figure is to be read.
let plotting;
const plotly = () => plotting ??= new Promise((resume) => {
  const evaluate = () => setTimeout(async () => {
    performance.mark("readable"); // all that needs no figure stands
    const script = document.createElement("script");
    script.textContent = new TextDecoder().decode(await inflate(document.getElementById("plotly").textContent, "gzip"));
    document.head.append(script);
    resume();
  });
  if (document.readyState === "complete") evaluate();
  else addEventListener("load", evaluate);
});

const recolour = (text) =>
  night.matches && !printing ? text.replace(/#[0-9A-F]{6}/g, (c) => darker[c] ?? c) : text;

// Draws a figure ({data, layout}) into a place; what is given is not changed.
function draw(place, figure) {
  if (!place) return;
  const copy = JSON.parse(recolour(JSON.stringify(figure)));
  const ink = getComputedStyle(document.documentElement).getPropertyValue(printing ? "--print-ink" : "--ink");
  Object.assign(copy.layout, {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true,
    modebar: { bgcolor: "rgba(0,0,0,0)", color: roles.before, activecolor: ink },
    font: { color: ink, family: getComputedStyle(document.body).fontFamily, size: 12 },
  });
  if (printing) copy.layout.width = place.classList.contains("wide-plot") ? printedWidth : printedWidth / 2 - 10;
  if (narrow.matches && copy.layout.margin?.l < 60) Object.assign(copy.layout.margin, { l: 40, r: 4 });
  const half = (printing || narrow.matches) && !place.classList.contains("wide-plot");
  if (half && copy.layout.showlegend) { // its entries stand below each other, and would reach into the axis
    const entries = copy.data.filter((trace) => trace.showlegend !== false).length;
    copy.layout.height += 17 * Math.max(0, entries - 2);
  }
  Plotly.react(place, copy.data, copy.layout, { ...config, displayModeBar: !narrow.matches && !printing });
}

function saying(text, layout = {}) {
  const words = { text, x: 0.5, y: 0.5, xref: "paper", yref: "paper", showarrow: false, font: { size: 13 } };
  return { data: [], layout: { ...layout, shapes: [], annotations: [words] } };
}

// A small panel of accuracies, as Python's ones look.
function panel(title, traces, xaxis, more = {}) {
  const grid = { gridcolor: roles.grid, zeroline: false, fixedrange: true };
  return {
    data: traces,
    layout: {
      title: { text: title, x: 0, xanchor: "left", font: { size: 13 } },
      height: 260, margin: { l: 46, r: 10, t: 34, b: 64 }, dragmode: false, hovermode: "closest",
      showlegend: traces.some((t) => t.showlegend !== false),
      legend: { orientation: "h", x: 0, y: -0.22, yanchor: "top", font: { size: 11 } },
      xaxis: { ...grid, ...xaxis },
      yaxis: { range: [-0.04, 1.04], tickformat: ".0%", ...grid },
      ...more,
    },
  };
}

const line = (name, x, y, color, more = {}) => ({
  type: "scatter", mode: "lines+markers", name, x, y,
  line: { color, width: 2, dash: more.dash ?? "solid" }, marker: { color, size: 6, symbol: more.symbol ?? "circle" },
  hovertemplate: `${name}<br>%{text}: %{y:.1%}<extra></extra>`, ...more.trace,
});

// Kept, because a page about to be printed cannot wait for the inflating.
const inflated = new Map();

async function inflate(text, format = "deflate") {
  if (!inflated.has(text)) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream(format));
    inflated.set(text, new Uint8Array(await new Response(stream).arrayBuffer()));
  }
  return inflated.get(text);
}
