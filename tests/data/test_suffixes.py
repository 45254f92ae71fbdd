"""The one list of video suffixes: each is of something that is read, and everybody searches folders by it."""

from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest

from data.benchmarks.files import VideoFolder
from data.frames import decode_video
from data.paths import VIDEO_SUFFIXES, is_video
from evaluation.inputs import find_videos

N_FRAMES, SIZE = 8, (96, 64)


class Form(NamedTuple):
    """How a file is written here."""

    container: str
    codec: str
    pixels: str = "yuv420p"
    size: tuple[int, int] = SIZE
    options: tuple[tuple[str, str], ...] = ()


FORMS = {
    **dict.fromkeys([".264", ".avc", ".h264"], Form("h264", "libx264")),
    **dict.fromkeys([".265", ".h265", ".hevc"], Form("hevc", "libx265")),
    **dict.fromkeys([".av1", ".obu"], Form("obu", "libsvtav1")),
    **dict.fromkeys([".avi", ".divx", ".xvid"], Form("avi", "mpeg4")),
    **dict.fromkeys([".m2t", ".trp"], Form("mpegts", "mpeg2video")),
    **dict.fromkeys([".m2ts", ".mts"], Form("mpegts", "libx264", options=(("mpegts_m2ts_mode", "1"),))),
    **dict.fromkeys([".mjpeg", ".mjpg"], Form("mjpeg", "mjpeg", "yuvj420p")),
    **dict.fromkeys([".mpe", ".mpg"], Form("mpeg", "mpeg1video")),
    **dict.fromkeys([".ogm", ".ogv"], Form("ogg", "libvpx")),
    **dict.fromkeys([".rm", ".rmvb"], Form("rm", "rv20", size=(176, 144))),
    ".3g2": Form("3g2", "h263", size=(176, 144)),
    ".3gp": Form("3gp", "mpeg4"),
    ".apng": Form("apng", "apng", "rgb24"),
    ".asf": Form("asf", "msmpeg4"),
    ".avif": Form("avif", "libsvtav1"),
    ".dv": Form("dv", "dvvideo", size=(720, 576)),
    ".f4v": Form("f4v", "libx264"),
    ".flv": Form("flv", "flv"),
    ".gif": Form("gif", "gif", "rgb8"),
    ".gxf": Form("gxf", "mpeg2video", size=(720, 576)),
    ".h261": Form("h261", "h261", size=(176, 144)),
    ".h263": Form("h263", "h263", size=(176, 144)),
    ".ismv": Form("ismv", "libx264"),
    ".ivf": Form("ivf", "libvpx"),
    ".m1v": Form("mpeg1video", "mpeg1video"),
    ".m2v": Form("mpeg2video", "mpeg2video"),
    ".m4v": Form("m4v", "mpeg4"),
    ".mj2": Form("mp4", "jpeg2000", "rgb24"),
    ".mkv": Form("matroska", "ffv1"),
    ".mov": Form("mov", "prores_ks", "yuv422p10le"),
    ".mp4": Form("mp4", "libx264"),
    ".mpeg": Form("mpeg", "mpeg2video"),
    ".mxf": Form("mxf", "mpeg2video"),
    ".nut": Form("nut", "ffv1"),
    ".qt": Form("mov", "qtrle", "rgb24"),
    ".ts": Form("mpegts", "libx264"),
    ".vob": Form("vob", "mpeg2video"),
    ".webm": Form("webm", "libvpx-vp9"),
    ".webp": Form("webp", "libwebp_anim"),
    ".wmv": Form("asf", "wmv2"),
    ".wtv": Form("wtv", "mpeg2video"),
    ".y4m": Form("yuv4mpegpipe", "wrapped_avframe"),
}


def bar(number: int, width: int, height: int) -> np.ndarray:
    """uint8 [height, width, 3]: where a white bar stands says which picture it is."""
    picture = np.full((height, width, 3), 40, dtype=np.uint8)
    step = width // N_FRAMES
    picture[:, number * step : (number + 1) * step] = 220
    return picture


def numbers_of(frames: np.ndarray) -> list[int]:
    brightness = frames.mean(axis=(1, 3))
    return [int(row.reshape(N_FRAMES, -1).mean(axis=1).argmax()) for row in brightness]


def write(path: Path, form: Form) -> None:
    with av.open(str(path), "w", format=form.container, options=dict(form.options)) as output:
        stream: Any = output.add_stream(form.codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *form.size, form.pixels
        stream.codec_context.thread_count = 1
        for number in range(N_FRAMES):
            frame = av.VideoFrame.from_ndarray(bar(number, *form.size), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())


@pytest.mark.parametrize("suffix", sorted(VIDEO_SUFFIXES))
def test_each_is_of_something_that_is_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"video{suffix}"
    write(path, FORMS[suffix])
    frames, info = decode_video(path, N_FRAMES)
    assert info.n_total == N_FRAMES
    assert numbers_of(frames) == list(range(N_FRAMES))


def test_folders_are_searched_by_it_for_scores_and_for_ladders(tmp_path: Path) -> None:
    for suffix in (*VIDEO_SUFFIXES, ".MP4", ".txt", ".jpg"):
        (tmp_path / f"a{suffix}").touch()
    scored = {Path(path).name for _, path in find_videos([str(tmp_path)]).videos}
    assert (
        scored == {*VideoFolder(tmp_path).videos()} == {f"a{suffix}" for suffix in (*VIDEO_SUFFIXES, ".MP4")}
    )
    assert not is_video("mp4")
