// Fleet: the work of each worker, the durations of each update, and failures.

import { clock, h, notice } from "./dom.js";
import { get, marksText } from "./data.js";
import { colour, draw, faint, mixed, theme } from "./plots.js";

const SILENT_UPDATES = 2;

let parts, current;

export const fleet = {
  mount(main) {
    const card = (title, note, wide) => {
      const plot = h("div", { class: "plot" });
      return { plot, element: h("article", { class: `card${wide ? " wide" : ""}` }, h("header", {}, h("h3", {}, title), h("span", { class: "note" }, note)), plot) };
    };
    parts = {
      workers: h("section", { class: "workers" }),
      phases: card("Time per update", "seconds since the previous update, by phase", true),
      lanes: card("Groups per worker", "number of groups that each worker sampled", true),
      text: card("Text per worker", "share of the characters of all answers, clean and perturbed"),
      staleness: card("Staleness", "policy versions between a group's oldest token and the policy it trained"),
      faults: h("section", {}),
      failures: h("section", {}),
      marked: h("section", {}),
    };
    main.append(h("div", { class: "cards" }, parts.phases.element, parts.lanes.element, parts.text.element, parts.staleness.element),
      h("div", { class: "tables" }, parts.workers, parts.faults, parts.failures, parts.marked));
  },

  async update(context) {
    current = context;
    const data = await get("fleet", { run: context.run });
    if (current !== context) return;
    drawPhases(data.phases);
    drawLanes(data.shares);
    drawShares(data.shares);
    drawStaleness(data.staleness);
    drawWorkers(data.workers);
    drawEvents(data);
  },
};

function drawPhases({ version, seconds }) {
  const traces = Object.entries(seconds).filter(([, values]) => values.some((v) => v > 0)).map(([name, values], i) => ({
    x: version, y: values, name, type: "scatter", mode: "lines", stackgroup: "time", line: { width: 0.5, color: colour(i), shape: "hvh" },
    fillcolor: faint(colour(i), 0.55), hovertemplate: "%{y:.2f} s",
  }));
  draw(parts.phases.plot, traces, { showlegend: true, margin: { l: 40, r: 10, t: 24, b: 34 }, yaxis: { rangemode: "tozero", range: [0, ceiling(seconds)] }, xaxis: { title: "version" } });
}

/** The top of the axis: above nearly all updates, so that one long evaluation does not flatten the others. */
function ceiling(seconds) {
  const columns = Object.values(seconds);
  const sums = (columns[0] ?? []).map((_, i) => columns.reduce((sum, values) => sum + (values[i] ?? 0), 0)).sort((a, b) => a - b);
  if (!sums.length) return 1;
  return Math.min(sums[sums.length - 1], 2.5 * sums[Math.floor(sums.length * 0.9)]) * 1.05;
}

function drawLanes({ version, workers, groups }) {
  const empty = theme() === "dark" ? "#1d232c" : "#f1f3f6";
  parts.lanes.plot.style.height = `${Math.max(110, 54 + 26 * workers.length)}px`;
  draw(parts.lanes.plot, [{
    x: version, y: workers, z: groups, type: "heatmap", zmin: 0, zmax: Math.max(1, ...groups.flat()), ygap: 3, showscale: false,
    colorscale: [[0, empty], [0.001, mixed(colour(0), 0.25)], [1, mixed(colour(0), 0.85)]], hovertemplate: "%{y}: %{z} groups<br>version %{x}<extra></extra>",
  }], { hovermode: "closest", xaxis: { title: "version", showgrid: false }, yaxis: { showgrid: false, autorange: "reversed", type: "category" }, margin: { l: 70, r: 10, t: 6, b: 34 } });
}

function drawShares({ version, workers, characters }) {
  draw(parts.text.plot, workers.map((name, i) => ({
    x: version, y: characters[i], name, type: "scatter", mode: "lines", stackgroup: "share", groupnorm: "percent",
    line: { width: 0.5, color: colour(i) }, fillcolor: faint(colour(i), 0.55), hovertemplate: "%{y:.0f} %",
  })), { showlegend: workers.length <= 6, yaxis: { range: [0, 100], ticksuffix: " %" }, margin: { l: 44, r: 8, t: 24, b: 20 } });
}

function drawStaleness({ version, mean, largest }) {
  const line = (y, name, number) => ({ x: version, y, name, type: "scatter", mode: "lines", line: { color: colour(number), width: 1.6, shape: "hvh" } });
  draw(parts.staleness.plot, [line(largest, "largest", 1), line(mean, "mean", 0)],
    { showlegend: true, yaxis: { rangemode: "tozero", range: [0, Math.max(1, ...largest) * 1.1], dtick: Math.max(...largest, 0) > 6 ? undefined : 1 }, margin: { l: 36, r: 8, t: 24, b: 20 } });
}

function drawWorkers(workers) {
  if (!workers.length) {
    parts.workers.replaceChildren(notice("No group has been recorded yet."));
    return;
  }
  const newest = Math.max(...workers.map((w) => w.last_update));
  const groups = workers.reduce((sum, w) => sum + w.groups, 0);
  const characters = workers.reduce((sum, w) => sum + w.characters, 0);
  const number = (text) => h("td", { class: "number" }, text);
  parts.workers.replaceChildren(h("h3", {}, "Workers"), h("table", {},
    h("thead", {}, h("tr", {}, h("th", {}, "worker"), ...["groups", "share", "text", "unparsed", "first update", "last update"].map((t) => h("th", { class: "number" }, t)), h("th", {}, "last group"))),
    h("tbody", {}, ...workers.map((w) => {
      const silent = newest - w.last_update >= SILENT_UPDATES;
      return h("tr", {}, h("td", {}, h("i", { class: `state ${silent ? "silent" : "serving"}` }), w.worker),
        number(w.groups.toLocaleString("en")), number(`${((100 * w.groups) / groups).toFixed(0)} %`), number(`${((100 * w.characters) / (characters || 1)).toFixed(0)} %`),
        number(`${((100 * w.unparsed) / (w.completions || 1)).toFixed(1)} %`), number(String(w.first_update)), number(String(w.last_update)),
        h("td", { class: silent ? "bad" : "" }, silent ? `none since update ${w.last_update}, ${clock(w.last_time)}` : clock(w.last_time)));
    }))));
}

function drawEvents({ failures, faults, marked }) {
  parts.faults.replaceChildren(h("h3", {}, `Actors that failed: ${faults.length}`), faults.length ? h("table", {},
    h("thead", {}, h("tr", {}, h("th", {}, "when"), h("th", {}, "actor"), h("th", {}, "reason"))),
    h("tbody", {}, ...[...faults].reverse().map((f) => h("tr", {}, h("td", { class: "name" }, clock(f.time)), h("td", { class: "name" }, f.actor ?? "–"), h("td", { class: "text" }, f.reason ?? ""))))) : notice("None is recorded."));
  parts.failures.replaceChildren(h("h3", {}, `Videos that failed: ${failures.length}`), failures.length ? h("table", {},
    h("thead", {}, h("tr", {}, h("th", { class: "number" }, "update"), h("th", {}, "video"), h("th", {}, "stage"), h("th", {}, "reason"))),
    h("tbody", {}, ...[...failures].reverse().map((f) => h("tr", {}, h("td", { class: "number" }, String(f.update)), h("td", { class: "name", title: f.path ?? "" }, f.video_id ?? "–"), h("td", {}, f.stage ?? "–"), h("td", { class: "text" }, f.reason ?? ""))))) : notice("None is recorded."));
  parts.marked.replaceChildren(h("h3", {}, `Videos with unusual files: ${marked.length}`), marked.length ? h("table", {},
    h("thead", {}, h("tr", {}, h("th", { class: "number" }, "update"), h("th", {}, "video"), h("th", {}, "properties of the file"))),
    h("tbody", {}, ...[...marked].reverse().map((f) => h("tr", {}, h("td", { class: "number" }, String(f.update)), h("td", { class: "name", title: f.path ?? "" }, f.video_id ?? "–"), h("td", { class: "text" }, marksText(f.marks)))))) : notice("None is recorded."));
}
