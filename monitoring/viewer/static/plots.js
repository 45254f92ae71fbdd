// Draw with Plotly in the page's colours.

const RUN_COLOURS = {
  light: ["#2f6fdd", "#d9622b", "#16936a", "#9a4fd1", "#c23b84", "#8a7a14", "#0c8fa8", "#6b7280"],
  dark: ["#6ea3ff", "#f08a55", "#3fc796", "#bf8af0", "#ee78b8", "#c9b848", "#45c4dc", "#a3acb8"],
};

export function theme() {
  return document.documentElement.dataset.theme;
}

export function colour(number) {
  const colours = RUN_COLOURS[theme()];
  return colours[number % colours.length];
}

/** Make a #rrggbb colour transparent. */
export function faint(hex, alpha) {
  return `rgba(${channels(hex).join(",")},${alpha})`;
}

/** The opaque colour that a transparent #rrggbb colour has on the background of plots. */
export function mixed(hex, alpha) {
  const ground = channels(css("--surface"));
  return `rgb(${channels(hex).map((c, i) => Math.round(alpha * c + (1 - alpha) * ground[i])).join(",")})`;
}

function channels(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

export function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const CONFIG = { displayModeBar: false, responsive: true, doubleClick: "reset" };

/** Draw a plot, or redraw it with the same zoom. `layout` is merged into the default layout. */
export function draw(element, traces, layout = {}) {
  const axis = {
    gridcolor: css("--grid"),
    linecolor: css("--border"),
    zeroline: false,
    ticks: "",
    exponentformat: "e",
    automargin: true,
    tickfont: { color: css("--muted") },
  };
  const { xaxis, yaxis, ...rest } = layout;
  const titled = ({ title, ...more } = {}) => (title
    ? { ...axis, ...more, title: { text: title, standoff: 4, font: { color: css("--muted"), size: 11 } } }
    : { ...axis, ...more });
  return Plotly.react(
    element,
    traces,
    {
      paper_bgcolor: css("--surface"),
      plot_bgcolor: css("--surface"),
      font: { family: css("--font"), size: 11, color: css("--text") },
      margin: { l: 34, r: 8, t: 6, b: 20 },
      showlegend: false,
      hovermode: "x unified",
      hoverlabel: { bgcolor: css("--raised"), bordercolor: css("--border"), font: { color: css("--text") } },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", traceorder: "normal", font: { size: 11 } },
      uirevision: "kept",
      ...rest,
      xaxis: titled(xaxis),
      yaxis: titled(yaxis),
    },
    CONFIG,
  );
}

export function savePicture(element, filename) {
  return Plotly.downloadImage(element, { format: "png", width: 900, height: 420, scale: 2, filename });
}

/** Centred moving mean over 2 * half + 1 values, without missing values. It is missing before the first and
 *  after the last value. */
export function smooth(values, half) {
  if (half === 0) return values;
  const sums = [0];
  const counts = [0];
  values.forEach((value, i) => {
    sums.push(sums[i] + (value ?? 0));
    counts.push(counts[i] + (value === null ? 0 : 1));
  });
  const known = (value) => value !== null;
  const [from, to] = [values.findIndex(known), values.findLastIndex(known)];
  return values.map((_, i) => {
    if (i < from || i > to) return null;
    const first = Math.max(0, i - half);
    const last = Math.min(values.length, i + half + 1);
    const count = counts[last] - counts[first];
    return count ? (sums[last] - sums[first]) / count : null;
  });
}
