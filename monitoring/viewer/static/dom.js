// Create elements and format numbers. Texts from models and files are inserted only as text nodes.

const SVG = "http://www.w3.org/2000/svg";

/** Create an element: h("td", {class: "number", onclick: f}, "text", child). */
export function h(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Format a number with a fixed number of decimals; a dash if it is missing. */
export function fixed(value, digits = 2) {
  return value === null || value === undefined || Number.isNaN(value) ? "–" : value.toFixed(digits);
}

/** Format a number with three significant digits; numbers from 1,000 without decimals. */
export function short(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(1);
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}

export function ago(seconds) {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} days ago`;
}

export function clock(seconds) {
  return seconds ? new Date(seconds * 1000).toLocaleString("sv") : "–";
}

/** The text of a completion, with dimmed tags. */
export function trace(text) {
  return (text ?? "").split(/(<\/?(?:think|answer)>)/).map((piece) => (/^<\/?(think|answer)>$/.test(piece)
    ? h("span", { class: "tag" }, piece) : piece));
}

export function notice(text) {
  return h("p", { class: "notice" }, text);
}

/** Scroll only the container, until the element inside it is visible. */
export function reveal(container, element) {
  const [outer, inner] = [container.getBoundingClientRect(), element.getBoundingClientRect()];
  if (inner.top < outer.top || inner.bottom > outer.bottom) {
    container.scrollTop += inner.top - outer.top - (outer.height - inner.height) / 2;
  }
}

/** Make the browser save a file. */
export function download(name, text) {
  const link = h("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** Convert columns [{name, x, y}] to CSV, joined by x. */
export function csv(key, columns) {
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const rows = new Map();
  columns.forEach(({ x, y }, place) => {
    x.forEach((at, i) => {
      if (!rows.has(at)) rows.set(at, new Array(columns.length).fill(""));
      rows.get(at)[place] = y[i] ?? "";
    });
  });
  const lines = [...rows.entries()].sort((a, b) => a[0] - b[0]).map(([at, cells]) => [at, ...cells].join(","));
  return [[key, ...columns.map((c) => quoted(c.name))].join(","), ...lines].join("\n") + "\n";
}
