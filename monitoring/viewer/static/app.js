// The frame of the page: keeps view and runs in the address, handles keys, polls for changes every two seconds.

import { ago, fixed, h, notice } from "./dom.js";
import { get } from "./data.js";
import { colour, theme } from "./plots.js";
import { curves } from "./curves.js";
import { videos } from "./videos.js";
import { ranking } from "./ranking.js";
import { fleet } from "./fleet.js";

const VIEWS = { curves, videos, ranking, fleet };
const POLL_MS = 2000;
const LIVE_S = 120;

/** The address after #: view, selected run, compared runs, and the parameters of the view. */
const state = { view: "curves", run: null, shown: [], parameters: {} };
let runs = [];
/** The colour number of each run, which does not change when other runs appear. */
const numbers = new Map();
let mounted = null;
let reachable = true;

function readAddress() {
  const [view, query] = location.hash.slice(1).split("?");
  const parameters = Object.fromEntries(new URLSearchParams(query ?? ""));
  state.view = view in VIEWS ? view : "curves";
  const known = (name) => runs.some((run) => run.name === name);
  state.run = known(parameters.run) ? parameters.run : (runs[0]?.name ?? null);
  state.shown = (parameters.runs ? parameters.runs.split("|") : defaultShown()).filter(known);
  delete parameters.run;
  delete parameters.runs;
  state.parameters = parameters;
}

/** Compare up to four runs; of more, show the newest. */
function defaultShown() {
  return runs.length <= 4 ? runs.map((run) => run.name) : [runs[0].name];
}

/** Change the address. Parameters that are not named stay; those set to null are removed. */
export function go(change, { replace = false } = {}) {
  const { view = state.view, run = state.run, shown = state.shown, ...rest } = change;
  const kept = view === state.view && run === state.run ? state.parameters : {};
  const query = new URLSearchParams();
  if (run) query.set("run", run);
  query.set("runs", shown.join("|"));
  for (const [name, value] of Object.entries({ ...kept, ...rest })) {
    if (value !== null && value !== undefined) query.set(name, value);
  }
  const address = `#${view}?${query}`;
  if (address === location.hash) return;
  if (replace) {
    history.replaceState(null, "", address);
    show();
  } else location.hash = address;
}

function context() {
  return {
    run: state.run,
    shown: state.shown,
    parameters: state.parameters,
    colourOf,
    revisionOf: (name) => runs.find((run) => run.name === name)?.revision,
    go,
  };
}

function colourOf(name) {
  if (!numbers.has(name)) numbers.set(name, numbers.size);
  return colour(numbers.get(name));
}

/** Show the view in the address, with the current content of the run's files. */
async function show() {
  readAddress();
  drawTabs();
  drawRuns();
  const main = document.getElementById("view");
  const view = VIEWS[state.view];
  if (mounted !== view) {
    main.replaceChildren();
    main.className = `view-${state.view}`;
    main.scrollTop = 0;
    delete main.dataset.ready;
    view.mount(main, context());
    mounted = view;
  }
  try {
    await view.update(context());
    if (mounted === view) main.dataset.ready = state.view;
  } catch (error) {
    if (mounted !== view) return;
    mounted = null;
    main.replaceChildren(notice(error.message));
    main.dataset.ready = "failed";
  }
}

function drawTabs() {
  const tabs = Object.keys(VIEWS).map((name, i) =>
    h(
      "button",
      { class: "tab", "aria-current": name === state.view ? "page" : null, onclick: () => go({ view: name }) },
      h("span", {}, name[0].toUpperCase() + name.slice(1)),
      h("kbd", {}, String(i + 1)),
    ),
  );
  document.getElementById("tabs").replaceChildren(...tabs);
}

function drawRuns() {
  const rows = runs.map((run) => {
    const own = colourOf(run.name);
    const shown = state.shown.includes(run.name);
    const others = state.shown.filter((name) => name !== run.name);
    const progress = run.total_updates ? `${run.updates} / ${run.total_updates}` : `${run.updates}`;
    return h(
      "div",
      { class: "run", "aria-current": run.name === state.run ? "true" : null },
      h("button", {
        class: "swatch",
        style: { borderColor: own, background: shown ? own : "transparent" },
        title: shown ? "remove from the curves" : "add to the curves",
        "aria-pressed": String(shown),
        onclick: () => go({ shown: shown ? others : [...others, run.name] }),
      }),
      h(
        "button",
        {
          class: "run-name",
          title: run.path,
          onclick: () => go({ run: run.name, shown: shown ? state.shown : [...state.shown, run.name] }),
        },
        h("span", { class: "name" }, run.name),
        h("span", { class: "figures" }, `${progress} updates`, isLive(run) ? h("i", { class: "dot" }) : null),
        h("span", { class: "figures" }, `reward ${fixed(run.reward)} · SRCC ${fixed(run.srcc, 3)}`),
        run.broken_lines ? h("span", { class: "figures bad" }, `${run.broken_lines} unreadable lines`) : null,
      ),
    );
  });
  document.getElementById("runs").replaceChildren(h("h2", {}, runs.length === 1 ? "Run" : "Runs"), ...rows);
  drawLive();
}

function isLive(run) {
  return !run.finished && Date.now() / 1000 - run.modified < LIVE_S;
}

function drawLive() {
  const element = document.getElementById("live");
  const run = runs.find((r) => r.name === state.run);
  if (!reachable) {
    element.replaceChildren(h("span", { class: "bad" }, "the viewer does not answer"));
  } else if (run) {
    const since = ago(Date.now() / 1000 - run.modified);
    const text = run.finished ? `finished ${since}` : `last written ${since}`;
    element.replaceChildren(isLive(run) ? h("i", { class: "dot" }) : "", text);
  }
}

async function poll() {
  const before = new Map(runs.map((run) => [run.name, run.revision]));
  try {
    runs = await get("runs");
    reachable = true;
  } catch {
    reachable = false;
  }
  const changed = (name) => runs.find((run) => run.name === name)?.revision !== before.get(name);
  if (reachable && [state.run, ...state.shown].some(changed)) await show();
  else drawRuns();
  setTimeout(poll, POLL_MS);
}

function setTheme(name) {
  document.documentElement.dataset.theme = name;
}

function switchTheme() {
  setTheme(theme() === "dark" ? "light" : "dark");
  localStorage.setItem("theme", theme());
  mounted = null;
  show();
}

function onKey(event) {
  const typing = event.target.matches("input, select, textarea") && event.target.type !== "range";
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const help = document.getElementById("help");
  const names = Object.keys(VIEWS);
  if (help.open) {
    if (event.key === "?" || event.key === "Escape") help.close();
  } else if (names[Number(event.key) - 1]) go({ view: names[Number(event.key) - 1] });
  else if (event.key === "t") switchTheme();
  else if (event.key === "?") help.showModal();
  else if (mounted?.key?.(event.key, context())) event.preventDefault();
}

async function start() {
  const preferred = matchMedia("(prefers-color-scheme: dark)");
  setTheme(localStorage.getItem("theme") ?? (preferred.matches ? "dark" : "light"));
  preferred.addEventListener("change", () => {
    if (localStorage.getItem("theme")) return;
    setTheme(preferred.matches ? "dark" : "light");
    mounted = null;
    show();
  });
  document.getElementById("theme").addEventListener("click", switchTheme);
  document.getElementById("help-button").addEventListener("click", () => document.getElementById("help").showModal());
  document.addEventListener("keydown", onKey);
  addEventListener("hashchange", () => show());
  runs = await get("runs");
  await show();
  setTimeout(poll, POLL_MS);
}

start();
