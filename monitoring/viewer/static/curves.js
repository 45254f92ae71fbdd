// Curves: every metric over the updates, for all chosen runs.

import { csv, download, h, notice, short } from "./dom.js";
import { get } from "./data.js";
import { draw, faint, savePicture, smooth } from "./plots.js";

const AGREEMENT = [["srcc", "SRCC"], ["plcc", "PLCC"], ["mean_srcc", "SRCC of means"]];
const FEW_EVALUATIONS = 12;

let root, grid, cards, observer, current;
const data = new Map();
const settings = { half: 4, spread: true };

export const curves = {
  mount(main) {
    root = main;
    cards = new Map();
    grid = h("div", { class: "sections" });
    root.append(toolbar(), grid);
    observer = new IntersectionObserver(
      (entries) => entries.forEach((entry) => {
        entry.target.card.visible = entry.isIntersecting;
        paint(entry.target.card);
      }),
      { root, rootMargin: "150px" },
    );
  },

  async update(context) {
    current = context;
    const revisions = new Map(context.shown.map((name) => [name, context.revisionOf(name)]));
    const stale = context.shown.filter((name) => data.get(name)?.revision !== revisions.get(name));
    await Promise.all(stale.map(async (name) => {
      data.set(name, { spread: data.get(name)?.spread, ...(await get("curves", { run: name })) });
    }));
    layOut();
    // Show the lines first: for the spread, the server must read every group of the run once.
    await Promise.all(stale.map(async (name) => {
      const spread = await get("spread", { run: name });
      Object.assign(data.get(name), { spread, revision: revisions.get(name) });
    }));
    if (stale.length) repaint((card) => card.band);
  },
};

function toolbar() {
  const label = h("output", {}, windowText());
  return h(
    "div",
    { class: "toolbar" },
    h("label", {}, "Smoothing", h("input", {
      type: "range", min: 0, max: 50, value: settings.half, id: "smoothing",
      oninput: (event) => {
        settings.half = Number(event.target.value);
        label.textContent = windowText();
        repaint();
      },
    }), label),
    h("label", {}, h("input", {
      type: "checkbox", checked: settings.spread,
      onchange: (event) => { settings.spread = event.target.checked; repaint(); },
    }), "spread over groups (middle 80 %) of the selected run"),
    h("span", { class: "grow" }),
    h("button", { onclick: saveAll, title: "save every metric of the selected run" }, "All metrics as CSV"),
  );
}

function windowText() {
  return settings.half ? `mean of ${2 * settings.half + 1} updates` : "off";
}

/** Create a card for every metric of the chosen runs. Keep the cards if the metrics have not changed. */
function layOut() {
  if (!current.shown.length) {
    grid.replaceChildren(notice("No run is chosen: click a coloured box on the left."));
    cards.clear();
    return;
  }
  const wanted = sections();
  const names = wanted.flatMap(([, metrics]) => metrics.map((m) => m.key)).join("|");
  if (grid.dataset.names !== names || !cards.size) {
    grid.dataset.names = names;
    observer.disconnect();
    cards.clear();
    grid.replaceChildren(...wanted.map(([title, metrics]) => h(
      "section", {}, h("h2", {}, title), h("div", { class: "cards" }, ...metrics.map(makeCard)),
    )));
    for (const card of cards.values()) observer.observe(card.element);
  }
  repaint();
}

/** The metrics of all loaded runs by section: rewards, held-out scores, other declared metrics, all others. */
function sections() {
  const loaded = current.shown.map((name) => data.get(name)).filter(Boolean);
  const titles = [...new Set(loaded.flatMap((run) => run.sections.map(([title]) => title)))];
  const declared = titles.map((title) => {
    const metrics = new Map();
    for (const run of loaded) {
      for (const m of run.sections.find(([other]) => other === title)?.[1] ?? []) {
        if (!metrics.has(m.name)) metrics.set(m.name, { key: m.name, label: labelOf(m), about: m.about, band: run.bands[m.name] });
      }
    }
    return [title, [...metrics.values()]];
  });
  const named = new Set(declared.flatMap(([, metrics]) => metrics.map((m) => m.key)));
  const recorded = new Set(loaded.flatMap((run) => Object.keys(run.series)));
  const rest = [...recorded].filter((key) => !named.has(key)).sort().map((key) => ({ key, label: key }));
  const [rewards, ...others] = declared;
  return [...(rewards ? [rewards] : []), ["Held-out", agreement(loaded)], ...others, ["Everything else", rest]]
    .filter(([, m]) => m.length);
}

/** Title and unit. The unit is left out for shares, and if the title contains it. */
function labelOf({ title, unit }) {
  const named = unit === "share" || title.toLowerCase().split(" ").includes(unit);
  return unit && !named ? `${title}, ${unit}` : title;
}

function agreement(loaded) {
  const splits = [...new Set(loaded.flatMap((run) => Object.keys(run.evaluations)))];
  return splits.flatMap((split) => AGREEMENT
    .filter(([name]) => loaded.some((run) => run.evaluations[split]?.[name]))
    .map(([name, label]) => ({ key: `${split}/${name}`, label: `${label}, ${split}`, split, statistic: name })));
}

function makeCard(metric) {
  const plot = h("div", { class: "plot" });
  const latest = h("span", { class: "latest" });
  const element = h("article", { class: "card", "data-metric": metric.key },
    h("header", {}, h("h3", { title: metric.about ? `${metric.key}: ${metric.about}` : metric.key }, metric.label), latest, h("span", { class: "tools" },
      h("button", { class: "quiet", title: "picture", onclick: () => savePicture(plot, fileName(metric)) }, "PNG"),
      h("button", { class: "quiet", title: "numbers", onclick: () => download(`${fileName(metric)}.csv`, csv("version", columns(metric))) }, "CSV"),
      h("button", { class: "quiet", title: "larger", onclick: () => { element.classList.toggle("large"); paint(card); } }, "⤢"))),
    plot);
  const card = { ...metric, element, plot, latest, visible: false };
  element.card = card;
  cards.set(metric.key, card);
  return element;
}

function fileName(metric) {
  return metric.label.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-");
}

function repaint(which = () => true) {
  for (const card of cards.values()) if (which(card)) paint(card);
}

function paint(card) {
  if (!card.visible) return;
  const traces = current.shown.flatMap((name) => (card.split ? evaluated(card, name) : lines(card, name)));
  draw(card.plot, traces, { xaxis: { rangemode: "tozero" }, yaxis: { nticks: 6 } });
  card.latest.replaceChildren(...current.shown.map((name) => {
    const last = columns(card, [name])[0]?.y.findLast((value) => value !== null);
    return h("b", { style: { color: current.colourOf(name) } }, short(last));
  }));
}

function lines(card, name) {
  const run = data.get(name);
  const raw = run?.series[card.key];
  if (!raw) return [];
  const colour = current.colourOf(name);
  const smoothed = settings.half > 0 && raw.length > 2;
  const base = { x: run.version, type: "scatter", mode: raw.length < 3 ? "markers" : "lines", name };
  const traces = smoothed
    ? [{ ...base, y: raw, hoverinfo: "skip", line: { color: faint(colour, 0.28), width: 1 } }] : [];
  traces.push({ ...base, y: smoothed ? smooth(raw, settings.half) : raw, line: { color: colour, width: 1.8 },
    marker: { color: colour }, hovertemplate: "%{y:.4g}" });
  // Draw the band of one run only: several would hide one another.
  const bounds = card.band && settings.spread && (name === current.run || current.shown.length === 1) && run.spread;
  return bounds ? [...band(bounds.version, bounds.low[card.band], bounds.high[card.band], colour), ...traces] : traces;
}

function band(x, low, high, colour) {
  const edge = { x, type: "scatter", mode: "lines", line: { width: 0 }, hoverinfo: "skip" };
  return [
    { ...edge, y: smooth(low, settings.half) },
    { ...edge, y: smooth(high, settings.half), fill: "tonexty", fillcolor: faint(colour, 0.1) },
  ];
}

function evaluated(card, name) {
  const scores = data.get(name)?.evaluations[card.split];
  const y = scores?.[card.statistic];
  if (!y) return [];
  const colour = current.colourOf(name);
  const low = scores[`${card.statistic}_low`];
  const high = scores[`${card.statistic}_high`];
  const away = (bound) => y.map((value, i) => (value === null || !bound?.[i] ? 0 : Math.abs(bound[i] - value)));
  return [{
    x: scores.version, y, name, type: "scatter", mode: "lines+markers", cliponaxis: false, hovertemplate: "%{y:.3f}",
    connectgaps: true, line: { color: colour, width: 1.8 }, marker: { color: colour, size: y.length > FEW_EVALUATIONS ? 4 : 6 },
    error_y: low && { type: "data", symmetric: false, array: away(high), arrayminus: away(low),
      color: faint(colour, 0.45), thickness: 1.2, width: 3 },
  }];
}

/** The unsmoothed values of a card as columns for a CSV. Evaluations include their intervals. */
function columns(metric, names = current.shown) {
  return names.flatMap((name) => {
    const run = data.get(name);
    if (!metric.split) return run?.series[metric.key] ? [{ name, x: run.version, y: run.series[metric.key] }] : [];
    const scores = run?.evaluations[metric.split] ?? {};
    return ["", "_low", "_high"].filter((end) => scores[metric.statistic + end])
      .map((end) => ({ name: `${name}${end}`, x: scores.version, y: scores[metric.statistic + end] }));
  });
}

function saveAll() {
  const run = data.get(current.run);
  if (!run) return;
  const all = Object.entries(run.series).map(([name, y]) => ({ name, x: run.version, y }));
  download(`${current.run}.csv`, csv("version", all));
}
