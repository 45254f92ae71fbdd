// Requests to the server. Paths are relative, so that the page also works behind a proxy with a path prefix.

export async function get(path, parameters = {}) {
  const response = await fetch(`api/${path}?${new URLSearchParams(parameters)}`);
  if (!response.ok) throw new Error(await reason(response));
  return response.json();
}

/** A picture of frames side by side and their description, {url, info}; on failure, {reason}. */
export async function frames(kind, parameters) {
  const response = await fetch(`frames/${kind}?${new URLSearchParams(parameters)}`);
  if (!response.ok) return { reason: await reason(response) };
  return { url: URL.createObjectURL(await response.blob()), info: JSON.parse(response.headers.get("X-Frames")) };
}

async function reason(response) {
  const text = await response.text();
  try {
    return JSON.parse(text).error ?? text;
  } catch {
    return text || response.statusText;
  }
}

/** Describe the unusual properties that a file declares. */
export function marksText(marks) {
  const words = {
    sar: (v) => `pixels of ${v}`,
    interlaced: () => "interlaced",
    transfer: (v) => `HDR (${v})`,
    truncated: (v) => `truncated: ${v}`,
    damaged_frames: (v) => `damaged frames: ${v.join(", ")}`,
  };
  return Object.entries(marks ?? {}).map(([name, value]) => words[name]?.(value) ?? `${name}: ${value}`).join("; ");
}
