// Ranking: the scores of an evaluated version against MOS.

import { fixed, h, notice, reveal, trace } from "./dom.js";
import { get } from "./data.js";
import { colour, css, draw, faint } from "./plots.js";
import { filmstrip } from "./filmstrip.js";

const SHOWN_MISSES = 200;

let parts, current, evaluations, shown, chosen, clipShown;

export const ranking = {
  mount(main, context) {
    current = context;
    shown = null;
    clipShown = null;
    parts = {
      split: h("select", { id: "split", title: "split", onchange: (event) => current.go({ split: event.target.value, version: null }) }),
      version: h("select", { id: "version", title: "evaluated version", onchange: (event) => current.go({ version: event.target.value }) }),
      figures: h("span", { class: "figures" }),
      plot: h("div", { class: "plot scatter" }),
      fit: h("p", { class: "note" }),
      clip: h("section", { class: "clip" }),
      misses: h("section", { class: "misses" }),
    };
    main.append(
      h("div", { class: "toolbar" }, h("label", {}, "split", parts.split),
        h("button", { onclick: () => move(-1), title: "previous version (←)" }, "◀"), h("label", {}, "version", parts.version),
        h("button", { onclick: () => move(1), title: "next version (→)" }, "▶"), parts.figures),
      h("div", { class: "columns" },
        h("article", { class: "card" }, parts.plot, parts.fit),
        h("div", { class: "detail" }, parts.clip, parts.misses)));
  },

  async update(context) {
    const otherRun = context.run !== current.run;
    current = context;
    evaluations = (await get("evaluations", { run: context.run })).evaluations;
    if (!evaluations.length) {
      shown = null;
      parts.plot.replaceChildren(notice("No evaluation has been recorded yet."));
      for (const part of [parts.figures, parts.fit, parts.clip, parts.misses]) part.replaceChildren();
      return;
    }
    const splits = [...new Set(evaluations.map((e) => e.split))].sort((a, b) => count(b) - count(a));
    const split = splits.includes(context.parameters.split) ? context.parameters.split : splits[0];
    const versions = versionsOf(split);
    const asked = Number(context.parameters.version ?? NaN);
    const version = versions.includes(asked) ? asked : versions[versions.length - 1];
    options(parts.split, splits, split);
    options(parts.version, versions, version);
    if (otherRun || shown?.version !== version || shown?.split !== split) {
      shown = await get("ranking", { run: context.run, version, split });
      shown.rows = rowsOf(shown.videos);
      clipShown = null;
    }
    chosen = shown.rows.find((row) => row.video_id === context.parameters.video) ?? worst()[0] ?? null;
    drawFigures();
    drawScatter();
    drawMisses();
    await showClip();
  },

  key(key) {
    if (key === "ArrowLeft") return move(-1);
    if (key === "ArrowRight") return move(1);
    if (key === "ArrowUp" || key === "ArrowDown") {
      const rows = worst();
      const row = rows[rows.indexOf(chosen) + (key === "ArrowDown" ? 1 : -1)];
      if (row) open(row);
      return true;
    }
    return false;
  },
};

function count(split) {
  return evaluations.filter((e) => e.split === split).length;
}

function versionsOf(split) {
  return evaluations.filter((e) => e.split === split).map((e) => e.version);
}

function options(select, values, value) {
  select.replaceChildren(...values.map((v) => h("option", { value: v, selected: v === value }, String(v))));
}

function rowsOf(columns) {
  return columns.video_id.map((_, i) => {
    const row = Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, values[i]]));
    row.miss = row.greedy === null || row.mos === null ? null : row.greedy - row.mos;
    return row;
  });
}

function worst() {
  return shown ? shown.rows.filter((row) => row.miss !== null).sort((a, b) => Math.abs(b.miss) - Math.abs(a.miss)) : [];
}

function move(by) {
  if (!shown) return true;
  const versions = versionsOf(shown.split);
  const version = versions[versions.indexOf(shown.version) + by];
  if (version !== undefined) current.go({ version, split: shown.split }, { replace: true });
  return true;
}

function open(row) {
  current.go({ video: row.video_id, split: shown.split, version: shown.version }, { replace: true });
}

function drawFigures() {
  const e = evaluations.find((x) => x.version === shown.version && x.split === shown.split);
  const figure = (label, value, more = "") => h("span", {}, `${label} `, h("b", {}, value), more);
  parts.figures.replaceChildren(
    figure("SRCC", fixed(e.srcc, 3), e.srcc_low === null || e.srcc_low === undefined ? "" : ` (${fixed(e.srcc_low)} to ${fixed(e.srcc_high)})`),
    figure("PLCC", fixed(e.plcc, 3), " unfitted"), shown.fit.plcc ? figure("PLCC", fixed(shown.fit.plcc, 3), " fitted") : "",
    figure("videos", String(e.videos ?? shown.rows.length)), figure("unparsed", String(e.unparsed ?? 0)));
}

function drawScatter() {
  const kinds = [...new Set(shown.rows.map((row) => row.distortion))].sort();
  const traces = kinds.map((kind, i) => {
    const rows = shown.rows.filter((row) => row.distortion === kind && row.miss !== null);
    return {
      x: rows.map((r) => r.mos), y: rows.map((r) => r.greedy), customdata: rows.map((r) => r.video_id), type: "scatter", mode: "markers", name: kind || "all",
      marker: { color: faint(colour(i), 0.75), size: 7, symbol: i < 8 ? "circle" : "diamond" },
      hovertemplate: "%{customdata}<br>MOS %{x:.2f}, score %{y:.2f}<extra>%{fullData.name}</extra>",
    };
  });
  const guide = { type: "scatter", mode: "lines", hoverinfo: "skip", showlegend: false };
  traces.unshift({ ...guide, x: [1, 5], y: [1, 5], line: { color: css("--grid"), width: 1.5 } });
  if (shown.fit.mos) {
    traces.push({ ...guide, x: shown.fit.mos, y: shown.fit.score, line: { color: css("--text"), width: 1.8, dash: "dash" }, showlegend: true, name: "fitted curve" });
  }
  if (chosen && chosen.miss !== null) {
    traces.push({ x: [chosen.mos], y: [chosen.greedy], type: "scatter", mode: "markers", hoverinfo: "skip", showlegend: false,
      marker: { size: 14, color: "rgba(0,0,0,0)", line: { color: css("--text"), width: 2 } } });
  }
  draw(parts.plot, traces, {
    hovermode: "closest", showlegend: true, clickmode: "event", margin: { l: 40, r: 10, t: 8, b: 36 },
    xaxis: { title: "MOS", range: [0.85, 5.15], dtick: 1 }, yaxis: { title: "score", range: [0.85, 5.15], dtick: 1 },
  });
  parts.plot.removeAllListeners("plotly_click");
  parts.plot.on("plotly_click", (event) => {
    const id = event.points.find((p) => p.customdata)?.customdata;
    if (id) open({ video_id: id });
  });
  parts.fit.textContent = shown.fit.reason
    ? `No fitted curve: ${shown.fit.reason}.`
    : `Dashed: the ${shown.fit.name} from scores to MOS. Grey: score = MOS.`;
}

function drawMisses() {
  const rows = worst();
  const silent = shown.rows.filter((row) => row.miss === null);
  parts.misses.replaceChildren(
    h("h3", {}, "Largest errors"),
    h("table", {},
      h("thead", {}, h("tr", {}, h("th", { class: "number" }, "error"), h("th", { class: "number" }, "MOS"), h("th", { class: "number" }, "score"), h("th", {}, "video"), h("th", {}, "distortion"), h("th", {}, "answer"))),
      h("tbody", {}, ...[...silent, ...rows].slice(0, SHOWN_MISSES).map((row) => h("tr", {
        class: `link${row === chosen ? " chosen" : ""}`, "data-video": row.video_id, onclick: () => open(row),
      },
      h("td", { class: `number ${row.miss === null ? "bad" : row.miss > 0 ? "up" : "down"}` }, row.miss === null ? "none" : (row.miss > 0 ? "+" : "") + fixed(row.miss)),
      h("td", { class: "number" }, fixed(row.mos)), h("td", { class: "number" }, fixed(row.greedy)),
      h("td", { class: "name", title: row.video_id }, row.video_id), h("td", {}, row.distortion || "–"),
      h("td", { class: "text", title: row.text }, row.failure || withoutTags(row.text)))))));
  const line = parts.misses.querySelector(".chosen");
  if (line) reveal(parts.misses, line);
}

function withoutTags(text) {
  return text.replaceAll(/<\/?(think|answer)>/g, " ").trim();
}

async function showClip() {
  const key = chosen && `${current.run}|${shown.split}|${shown.version}|${chosen.video_id}`;
  if (!chosen || clipShown === key) return;
  clipShown = key;
  const { version, split } = shown;
  const { answers } = await get("clip", { run: current.run, split, video: chosen.video_id });
  if (clipShown !== key) return;
  const now = answers.find((a) => a.version === version);
  const samples = (now?.samples ?? []).map((s) => fixed(s)).join("  ");
  parts.clip.replaceChildren(
    h("div", { class: "title" }, h("h2", {}, chosen.video_id), h("span", { class: "chip strong" }, `MOS ${fixed(chosen.mos)}`),
      h("span", { class: "chip" }, `score ${fixed(chosen.greedy)}`), chosen.distortion ? h("span", { class: "chip" }, chosen.distortion) : null,
      chosen.source ? h("span", { class: "chip" }, `from ${chosen.source}`) : null),
    filmstrip("clean", "clip", { run: current.run, version, split, video: chosen.video_id }),
    samples ? h("p", { class: "note" }, `Sampled scores: ${samples}`) : "",
    h("div", { class: "scrolled" }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { class: "number" }, "version"), h("th", { class: "number" }, "score"), h("th", {}, "greedy answer"))),
      h("tbody", {}, ...[...answers].reverse().map((a) => h("tr", { class: a.version === version ? "chosen" : "" },
        h("td", { class: "number" }, String(a.version)), h("td", { class: "number" }, fixed(a.greedy)), h("td", { class: "text" }, ...trace(a.failure || a.text))))))));
}
