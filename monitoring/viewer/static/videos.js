// Videos: the answers to each video of an update, and how they changed over the run.

import { fixed, h, notice, reveal, svg, trace } from "./dom.js";
import { get } from "./data.js";
import { draw, faint, colour as seriesColour, css } from "./plots.js";
import { filmstrip } from "./filmstrip.js";

const ORDERS = {
  miss: ["largest error first", (g) => -(g.miss ?? -1)],
  reward: ["lowest reward first", (g) => g.total ?? 9],
  mos: ["MOS", (g) => g.mos],
  spread: ["largest spread first", (g) => -(g.score_std ?? -1)],
  file: ["as sampled", (g) => g.place],
};
const SHORT = { regression: "regr.", ranking: "rank.", temporal: "temp.", format: "form." };
const SCALE = { low: 1, high: 5 };

let parts, current, updates, list, group;
const settings = { order: "file", copy: "clean", sort: "score", descending: true };

export const videos = {
  mount(main, context) {
    current = context;
    updates = [];
    list = null;
    group = null;
    const slider = h("input", {
      type: "range", min: 0, max: 0, id: "update", "aria-label": "update",
      oninput: (event) => step(updates[Number(event.target.value)]),
    });
    parts = {
      slider,
      number: h("output", { class: "update-number" }),
      newest: h("button", { onclick: () => current.go({ update: null, video: null }), title: "follow the newest update (End)" }, "newest"),
      list: h("div", { class: "list", role: "listbox" }),
      group: h("div", { class: "group" }),
      history: h("section", { class: "history" }),
    };
    const order = h("select", {
      title: "order", onchange: (event) => { settings.order = event.target.value; drawList(); },
    }, ...Object.entries(ORDERS).map(([key, [label]]) => h("option", { value: key, selected: key === settings.order }, label)));
    main.append(
      h("div", { class: "toolbar" },
        h("button", { onclick: () => move(-1), title: "previous update (←)" }, "◀"), slider,
        h("button", { onclick: () => move(1), title: "next update (→)" }, "▶"), parts.number, parts.newest,
        h("span", { class: "grow" }), h("label", {}, "videos by", order)),
      h("div", { class: "columns" }, parts.list, h("div", { class: "detail" }, parts.group, parts.history)),
    );
  },

  async update(context) {
    const otherRun = context.run !== current.run;
    current = context;
    updates = (await get("updates", { run: context.run })).updates;
    if (!updates.length) {
      parts.list.replaceChildren();
      parts.group.replaceChildren(notice("No update has been recorded yet."));
      parts.history.replaceChildren();
      return;
    }
    const newest = updates[updates.length - 1];
    const update = updates.includes(Number(context.parameters.update)) ? Number(context.parameters.update) : newest;
    parts.slider.max = updates.length - 1;
    parts.slider.value = updates.indexOf(update);
    parts.number.textContent = `update ${update} → version ${update + 1}`;
    parts.newest.disabled = context.parameters.update === undefined;
    if (otherRun || list?.update !== update) {
      list = await get("groups", { run: context.run, update });
      list.rows = rowsOf(list);
    }
    drawList();
    const chosen = list.rows.find((row) => row.video_id === context.parameters.video) ?? sorted()[0];
    if (otherRun || group?.offset !== chosen.offset) await showGroup(chosen);
  },

  key(key) {
    if (key === "ArrowLeft") return move(-1);
    if (key === "ArrowRight") return move(1);
    if (key === "ArrowUp") return pick(-1);
    if (key === "ArrowDown") return pick(1);
    if (key === "End") return current.go({ update: null, video: null }), true;
    if (key === "p" && group?.perturbed) return choose(settings.copy === "clean" ? "perturbed" : "clean"), true;
    return false;
  },
};

function rowsOf(columns) {
  return columns.video_id.map((video_id, i) => {
    const row = { video_id, place: i };
    for (const name of ["offset", "worker", "mos", "score", "score_std", "total", "unparsed", "trained"]) row[name] = columns[name][i];
    row.miss = row.score === null ? null : Math.abs(row.score - row.mos);
    return row;
  });
}

function sorted() {
  const rank = ORDERS[settings.order][1];
  return [...list.rows].sort((a, b) => rank(a) - rank(b));
}

function step(update) {
  if (update !== undefined) current.go({ update }, { replace: true });
  return true;
}

function move(by) {
  return step(updates[Number(parts.slider.value) + by]);
}

function pick(by) {
  const rows = sorted();
  const at = rows.findIndex((row) => row.offset === group?.offset);
  const row = rows[at + by];
  if (row) open(row);
  return true;
}

function open(row) {
  current.go({ update: list.update, video: row.video_id }, { replace: true });
}

function drawList() {
  if (!list) return;
  parts.list.replaceChildren(...sorted().map((row) => h(
    "button",
    { class: "item", role: "option", "data-offset": row.offset, "aria-selected": String(row.offset === group?.offset), onclick: () => open(row) },
    h("span", { class: "name", title: row.video_id }, row.video_id),
    h("span", { class: "pair" }, `${fixed(row.mos)} `, h("i", {}, "→"), ` ${fixed(row.score)}`),
    gauge(row),
  )));
}

/** MOS (line) and mean score (dot) on the scale from 1 to 5. */
function gauge(row) {
  const at = (value) => `${((value - SCALE.low) / (SCALE.high - SCALE.low)) * 100}%`;
  return h("span", { class: "gauge" },
    h("i", { class: "mark", style: { left: at(row.mos) } }),
    row.score === null ? null : h("i", { class: `score ${missClass(row.miss)}`, style: { left: at(row.score) } }));
}

function missClass(miss) {
  return miss === null ? "" : miss < 0.35 ? "good" : miss < 0.8 ? "fair" : "poor";
}

async function showGroup(row) {
  const run = current.run;
  group = { offset: row.offset };
  markChosen();
  const loaded = await get("group", { run, offset: row.offset });
  if (group.offset !== row.offset) return;
  group = loaded;
  drawGroup();
  const past = await get("history", { run, video: row.video_id });
  if (group.offset === row.offset) drawHistory(past);
}

function markChosen() {
  for (const item of parts.list.children) {
    const chosen = Number(item.dataset.offset) === group.offset;
    item.setAttribute("aria-selected", String(chosen));
    if (chosen) reveal(parts.list, item);
  }
}

function choose(copy) {
  settings.copy = copy;
  drawAnswers();
}

function drawGroup() {
  const of = (copy) => ({ run: current.run, offset: group.offset, copy });
  const kind = group.perturbed?.ref.perturbation?.kind;
  parts.answers = h("section", { class: "answers" });
  parts.group.replaceChildren(
    h("div", { class: "title" },
      h("h2", {}, group.video_id),
      h("span", { class: "chip strong" }, `MOS ${fixed(group.mos)}`),
      h("span", { class: `chip ${group.status}` }, group.reason ? `${group.status}: ${group.reason}` : group.status),
      h("span", { class: "chip" }, group.worker),
      h("span", { class: "chip" }, `epoch ${group.epoch} · cohort ${group.cohort}`)),
    h("div", { class: "strips" },
      filmstrip("clean", "group", of("clean")),
      group.perturbed ? filmstrip(`perturbed: ${(kind ?? "unknown").replaceAll("_", " ")}`, "group", of("perturbed")) : null),
    scoreStrip(),
    parts.answers);
  drawAnswers();
}

/** The scores for both copies as dots on one scale, with a line at the MOS. */
function scoreStrip() {
  const [width, height, left, right] = [860, 64, 70, 12];
  const x = (value) => left + ((value - SCALE.low) / (SCALE.high - SCALE.low)) * (width - left - right);
  const ticks = [1, 2, 3, 4, 5].map((tick) => svg("g", {},
    svg("line", { class: "tick", x1: x(tick), x2: x(tick), y1: 4, y2: height - 16 }),
    svg("text", { class: "axis", x: x(tick), y: height - 4, "text-anchor": "middle" }, String(tick))));
  const rows = [["clean", group.clean], ["perturbed", group.perturbed]].filter(([, copy]) => copy);
  const dots = rows.flatMap(([name, copy], row) => {
    const y = rows.length === 1 ? 24 : 15 + row * 20;
    return [svg("text", { class: "axis", x: 4, y: y + 4 }, name), ...copy.completions
      .map((c, i) => ({ ...c, i })).filter((c) => c.score !== null)
      .map((c) => svg("circle", { class: `dot-${name}`, cx: x(c.score), cy: y, r: 4.5, onmouseenter: () => point(name, c.i, true), onmouseleave: () => point(name, c.i, false) },
        svg("title", {}, `${fixed(c.score)}`)))];
  });
  return svg("svg", { class: "score-strip", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "scores against MOS" },
    ...ticks, svg("line", { class: "mos", x1: x(group.mos), x2: x(group.mos), y1: 2, y2: height - 14 }),
    svg("text", { class: "mos-label", x: x(group.mos) + (group.mos > 4.6 ? -4 : 4), y: 9, "text-anchor": group.mos > 4.6 ? "end" : "start" }, "MOS"), ...dots);
}

function point(copy, completion, on) {
  if (copy !== settings.copy) return;
  parts.answers.querySelector(`[data-completion="${completion}"]`)?.classList.toggle("pointed", on);
}

function drawAnswers() {
  if (settings.copy === "perturbed" && !group.perturbed) settings.copy = "clean";
  const completions = group[settings.copy].completions.map((c, i) => ({ ...c, i }));
  const rewards = group.rewards.map((name) => [name, SHORT[name] ?? name, name === "format" ? 0 : 2]);
  const columns = [["score", "score", 2], ["total", "reward", 2], ...rewards, ["advantage", "adv.", 2]].filter(([key]) => completions.some((c) => c[key] !== undefined));
  const sort = columns.some(([key]) => key === settings.sort) ? settings.sort : "score";
  completions.sort((a, b) => ((b[sort] ?? -9) - (a[sort] ?? -9)) * (settings.descending ? 1 : -1));
  const head = columns.map(([key, label]) => h("th", {
    class: "number sortable", "aria-sort": key === sort ? (settings.descending ? "descending" : "ascending") : null,
    onclick: () => {
      settings.descending = key === sort ? !settings.descending : true;
      settings.sort = key;
      drawAnswers();
    },
  }, label));
  const tab = (copy) => h("button", { class: "tab", "aria-current": copy === settings.copy ? "page" : null, onclick: () => choose(copy) }, copy);
  parts.answers.replaceChildren(
    h("div", { class: "answer-tabs" }, tab("clean"), group.perturbed ? tab("perturbed") : null),
    h("table", {},
      h("thead", {}, h("tr", {}, ...head, h("th", { class: "number" }, "ver."), h("th", {}, "answer"))),
      h("tbody", {}, ...completions.map((c) => h("tr", { "data-completion": c.i, class: c.score === null ? "unparsed" : "" },
        ...columns.map(([key, , digits]) => cell(key, c[key], digits)),
        h("td", { class: "number" }, (c.versions ?? []).join(", ")),
        answer(c))))));
}

function cell(key, value, digits) {
  if (key === "score" && value === null) return h("td", { class: "number bad", title: "the score does not parse" }, "none");
  const sign = key === "advantage" && value ? (value > 0 ? " up" : " down") : "";
  return h("td", { class: `number ${key}${sign}` }, (sign === " up" ? "+" : "") + fixed(value, digits));
}

function answer(completion) {
  const cut = completion.finish_reason === "length" ? h("span", { class: "chip" }, "cut at the token limit") : null;
  return h("td", { class: "text" }, ...trace(completion.text), cut);
}

function drawHistory(past) {
  const plot = h("div", { class: "plot" });
  const rows = [...past.visits].reverse();
  parts.history.replaceChildren(
    h("h3", {}, `This video over the run: ${past.visits.length} visit${past.visits.length === 1 ? "" : "s"}`),
    h("div", { class: "past" }, plot, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { class: "number" }, "update"), h("th", { class: "number" }, "reward"), h("th", { class: "number" }, "best"), h("th", {}, "answer with the highest reward"))),
      h("tbody", {}, ...rows.map((visit) => h("tr", {
        class: `link${visit.update === group.update ? " chosen" : ""}`,
        onclick: () => current.go({ update: visit.update, video: past.video_id }),
      }, h("td", { class: "number" }, String(visit.update)), h("td", { class: "number" }, fixed(visit.total)), h("td", { class: "number" }, fixed(visit.score)), answer(visit)))))));
  const colour = seriesColour(0);
  const dots = past.visits.flatMap((visit) => visit.scores.filter((s) => s !== null).map((score) => [visit.update, score]));
  const means = past.visits.map((visit) => {
    const scores = visit.scores.filter((s) => s !== null);
    return scores.length ? scores.reduce((a, b) => a + b) / scores.length : null;
  });
  const at = past.visits.map((visit) => visit.update);
  draw(plot, [
    { x: at, y: past.visits.map((visit) => visit.mos), name: "MOS", mode: "lines+markers", marker: { size: 4, color: css("--muted") }, line: { color: css("--muted"), dash: "dot", width: 1.4 } },
    { x: dots.map((d) => d[0]), y: dots.map((d) => d[1]), mode: "markers", marker: { color: faint(colour, 0.35), size: 6 }, hoverinfo: "skip" },
    { x: at, y: means, name: "mean score", mode: "lines+markers", line: { color: colour, width: 1.6 }, marker: { color: colour, size: 5 }, hovertemplate: "%{y:.2f}" },
  ], { yaxis: { range: [0.9, 5.1], nticks: 5 }, xaxis: { title: "update" }, margin: { l: 30, r: 8, t: 6, b: 34 } });
}
