// A video's frames, cut from one picture that holds them side by side.

import { h } from "./dom.js";
import { frames } from "./data.js";

/** A row of frames that fills itself; a click makes them larger. `kind` and `parameters` say which. */
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
  const { indices, n_total: total, source_px: source, px, decoder } = sheet.info;
  const [height, width] = px;
  row.replaceChildren(...indices.map((_, i) => h("div", {
    class: "frame",
    style: {
      aspectRatio: `${width} / ${height}`,
      backgroundImage: `url(${sheet.url})`,
      backgroundSize: `${indices.length * 100}% 100%`,
      backgroundPosition: indices.length > 1 ? `${(i / (indices.length - 1)) * 100}% 0` : "0 0",
    },
  })));
  row.style.setProperty("--frames", indices.length);
  caption.title = `frames ${indices.join(", ")} of ${total}, ${source[1]}×${source[0]} px shown to the model at `
    + `${width}×${height} px, read by ${decoder}`;
}
