"""Render a video's frames, as the model saw them, side by side in one lossless picture.

A decoder may crash or hang on a damaged file. It therefore runs in a separate process, which is killed and
restarted if that happens.
"""

import contextlib
import io
import signal
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from data.config import DataConfig
from data.fetch_settings import DEFAULT_FETCHING, Fetching
from data.frames import FrameInfo, decode_video
from data.perturb import perturb
from data.records import Perturbation
from data.urls import UrlError, is_url, join
from data.video_file import DecoderName, VideoError
from monitoring.viewer.viewed_run import NotRecorded, ViewedRun
from runtime.project import moved

DECODE_TIMEOUT_S = 30.0
_END_S = 10.0
_KEPT_SHEETS = 16


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """The frames to render: the fields of a VideoRef, and the settings to decode them with."""

    path: str
    n_frames: int
    max_px: int
    decoder: DecoderName
    square: bool
    window_s: tuple[float, float] | None = None
    perturbation: Perturbation | None = None
    strict: bool = False
    frame_rate: float | None = None
    fetching: Fetching = DEFAULT_FETCHING


@dataclass(frozen=True, slots=True)
class Sheet:
    png: bytes
    info: FrameInfo

    def to_json(self) -> dict[str, Any]:
        return asdict(self.info) | {"marks": self.info.facts.marks}


def group_request(run: ViewedRun, offset: int, copy: str) -> FrameRequest:
    """Request the frames of one copy, "clean" or "perturbed", of the video of a recorded group.

    `offset` is the byte offset of the group's line in groups.jsonl. Raises NotRecorded or VideoError.
    """
    recorded = run.group(offset).get(copy)
    if not recorded:
        raise NotRecorded(f"the group at byte {offset} has no {copy} copy")
    return recorded_request(recorded["ref"], _data_config(run))


def recorded_request(ref: Mapping[str, Any], data: DataConfig) -> FrameRequest:
    """Request the frames of a recorded VideoRef. Raises VideoError if its file is outside the data root."""
    perturbation = ref.get("perturbation")
    window = ref.get("window_s")
    return FrameRequest(
        path=_inside_root(ref["path"], data),
        n_frames=int(ref["n_frames"]),
        max_px=data.max_frame_px,
        decoder=data.decoder,
        square=data.square_pixels,
        window_s=None if window is None else (float(window[0]), float(window[1])),
        fetching=data.fetching,
        perturbation=None if perturbation is None else Perturbation(**perturbation),
    )


def evaluated_request(run: ViewedRun, version: int, split: str, video_id: str) -> FrameRequest:
    """Request the frames of an evaluated video. Raises NotRecorded or VideoError."""
    data = _data_config(run)
    for prediction in run.predictions(version, split):
        if prediction.get("video_id") == video_id:
            path = _inside_root(prediction["path"], data)
            return FrameRequest(
                path,
                data.frames_per_video,
                data.max_frame_px,
                data.decoder,
                data.square_pixels,
                fetching=data.fetching,
            )
    raise NotRecorded(f"{run.path.name} has no answer to '{video_id}' on '{split}'")


class FrameReader:
    """Renders requests one at a time in a child process. It may be used from several threads."""

    def __init__(self, timeout_s: float = DECODE_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._sheet = lru_cache(_KEPT_SHEETS)(self._render)
        self._start()

    def _start(self) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def sheet(self, request: FrameRequest) -> Sheet:
        """Render the requested frames, or return a recent result from the cache.

        Raises VideoError if the file is missing or damaged, or the decoder crashes or exceeds its deadline.
        """
        with self._lock:
            return self._sheet(request)

    def close(self) -> None:
        self._process.kill()
        self._process.join(_END_S)  # a process blocked on a dead file server survives the signal
        self._connection.close()

    def _render(self, request: FrameRequest) -> Sheet:
        timeout_s = self._timeout_s + request.fetching.wait_s([request.path])
        try:
            self._connection.send(request)
            if not self._connection.poll(timeout_s):
                raise TimeoutError
            answer = self._connection.recv()
        except TimeoutError:
            self._restart()
            raise VideoError(request.path, f"not decoded within {timeout_s:g} s") from None
        except (EOFError, OSError):
            self._restart()
            raise VideoError(request.path, "the decoder crashed") from None
        if isinstance(answer, VideoError):
            raise answer
        return answer

    def _restart(self) -> None:
        self.close()
        self._start()


def render(request: FrameRequest) -> Sheet:
    """Decode the frames, perturb them if requested, and draw them as a PNG. Raises VideoError."""
    import numpy as np
    from PIL import Image

    frames, info = decode_video(
        request.path,
        request.n_frames,
        request.max_px,
        request.decoder,
        request.window_s,
        request.strict,
        request.square,
        request.frame_rate,
        replace(request.fetching, tries=1),
    )
    if request.perturbation is not None:
        frames = perturb(frames, request.perturbation)
    picture = io.BytesIO()
    Image.fromarray(np.concatenate(list(frames), axis=1)).save(picture, "PNG", compress_level=1)
    return Sheet(picture.getvalue(), info)


def _serve(connection: Connection) -> None:
    """Render requests from `connection` until its other end is closed. Ignore Ctrl-C, which the parent
    process handles."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        try:
            connection.send(render(request))
        except VideoError as error:
            connection.send(error)


def _data_config(run: ViewedRun) -> DataConfig:
    """The run's data settings. Raises NotRecorded if they are missing or invalid for this version."""
    try:
        return DataConfig.model_validate(run.config()["data"])
    except (KeyError, ValueError) as error:
        raise NotRecorded(
            f"{run.path.name}: config.json does not say how videos are read ({error})"
        ) from None


def _inside_root(path: str, data: DataConfig) -> str:
    """Resolve a path. Raises VideoError if it is outside the data root of the run."""
    if is_url(path) or isinstance(data.root, str):
        # Without such a root a run may have fetched from anywhere; its record alone opens no connection.
        with contextlib.suppress(LookupError, UrlError):
            if isinstance(data.root, str):
                return join(data.root, path)
        raise VideoError(path, "does not lie below a URL in the run's data.root and is not opened")
    root = (data.root or data.manifest.parent).resolve()
    resolved = Path(moved(path)).resolve()
    if not resolved.is_relative_to(root):
        raise VideoError(path, f"lies outside of the run's data root {root} and is not opened")
    return str(resolved)
