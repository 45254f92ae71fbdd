// Show a video's frames, cut from one picture that has them side by side.

import { h } from "./dom.js";
import { frames, marksText } from "./data.js";

/** A row of frames, which loads by itself; a click enlarges it. `kind` and `parameters` are those of `frames`. */
export function filmstrip(title, kind, parameters) {
  const caption = h("figcaption", {}, title);
  const row = h("div", { class: "frames waiting" });
  const element = h("figure", { class: "filmstrip", onclick: () => element.classList.toggle("large") }, caption, row);
  element.filled = fill(row, caption, kind, parameters);
  return element;
}

async function fill(row, caption, kind, parameters) {
  const sheet = await frames(kind, parameters);
  row.classList.remove("waiting");
  if (sheet.reason) {
    row.replaceChildren(h("p", { class: "placeholder" }, sheet.reason));
    return;
  }
  const { indices, n_total: total, source_px: source, px, decoder, facts, marks } = sheet.info;
  const [height, width] = px;
  row.replaceChildren(...indices.map((index, i) => h("div", {
    class: facts.damaged_frames.includes(index) ? "frame damaged" : "frame",
    style: {
      aspectRatio: `${width} / ${height}`,
      backgroundImage: `url(${sheet.url})`,
      backgroundSize: `${indices.length * 100}% 100%`,
      backgroundPosition: indices.length > 1 ? `${(i / (indices.length - 1)) * 100}% 0` : "0 0",
    },
  })));
  row.style.setProperty("--frames", indices.length);
  caption.title = `frames ${indices.join(", ")} of ${total}, ${source[1]}×${source[0]} px shown to the model at `
    + `${width}×${height} px, decoded by ${decoder}`;
  if (Object.keys(marks).length) caption.append(h("span", { class: "marks" }, marksText(marks)));
}
