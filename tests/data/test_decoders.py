"""Files as the world makes them, through both decoders: the right frames, or a clear error."""

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from data.frames import decode_video, video_duration_s
from data.prepare.probe import probe
from data.video_file import DecoderName, VideoError

HEIGHT, WIDTH = 64, 96
DECODERS: list[DecoderName] = ["decord", "pyav"]
WITH_B_FRAMES = {"g": "12", "bf": "2"}
FINE = {"qmin": "1", "b": "4000000"}
either = pytest.mark.parametrize("decoder", DECODERS)


def picture(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Red tells the frame's number; green marks the upper left corner."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[..., 0] = 8 * (number % 30)
    frame[: height // 2, : width // 2, 1] = 200
    return frame


def write(
    path: Path,
    n_frames: int,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    codec: str = "libx264",
    pixels: str = "yuv444p",
    times_ms: list[int] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = size
        stream.pix_fmt = pixels
        if times_ms:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(n_frames):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            if times_ms:
                frame.pts, frame.time_base = times_ms[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def numbers(frames: np.ndarray) -> list[int]:
    return [round(float(f[-8:, -8:, 0].mean()) / 8) for f in frames]


@either
@pytest.mark.parametrize(
    ("name", "n_frames", "expected", "options"),
    [
        ("one.mp4", 1, [0, 0, 0, 0], {}),
        ("two.mp4", 2, [0, 0, 1, 1], {}),
        ("matroska.mkv", 40, [5, 15, 25, 35], {"pixels": "yuv420p"}),
        ("vp9.webm", 40, [5, 15, 25, 35], {"codec": "libvpx-vp9", "pixels": "yuv420p"}),
        ("mjpeg.mov", 40, [5, 15, 25, 35], {"codec": "mjpeg", "pixels": "yuvj420p"}),
        ("variable rate.mp4", 8, [1, 3, 5, 7], {"times_ms": [0, 10, 400, 420, 430, 1000, 1900, 2000]}),
        ("ten bit.mp4", 40, [5, 15, 25, 35], {"pixels": "yuv420p10le"}),
        ("odd.mp4", 40, [5, 15, 25, 35], {"size": (63, 95)}),
    ],
)
def test_the_frames_asked_for_come_out(
    tmp_path: Path, decoder: DecoderName, name: str, n_frames: int, expected: list[int], options: Any
) -> None:
    path = write(tmp_path / name, n_frames, **options)
    frames, info = decode_video(path, 4, decoder=decoder)
    assert numbers(frames) == [index % 30 for index in expected]
    assert list(info.indices) == expected
    assert info.n_total == n_frames
    assert info.source_px == info.px == options.get("size", (HEIGHT, WIDTH))
    assert info.decoder.lower().startswith(decoder)


@either
def test_thousands_of_frames(tmp_path: Path, decoder: DecoderName) -> None:
    path = write(tmp_path / "long.mp4", 3000)
    frames, info = decode_video(path, 3, decoder=decoder)
    assert list(info.indices) == [500, 1500, 2500]
    assert numbers(frames) == [500 % 30, 1500 % 30, 2500 % 30]
    assert video_duration_s(path, decoder) == pytest.approx(120, abs=0.1)


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p"])
def test_both_decoders_give_the_same_pixels(tmp_path: Path, pixels: str) -> None:
    path = write(tmp_path / "clip.mp4", 60, pixels=pixels)
    one, other = (decode_video(path, 6, decoder=d)[0] for d in DECODERS)
    assert np.array_equal(one, other)


@either
def test_rotation_is_applied(tmp_path: Path, decoder: DecoderName) -> None:
    content = bytearray(write(tmp_path / "phone.mp4", 8).read_bytes())
    matrix = content.index(b"tkhd") + 44
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path = tmp_path / "turned.mp4"
    path.write_bytes(bytes(content))
    frames, info = decode_video(path, 2, decoder=decoder)
    assert frames.shape == (2, WIDTH, HEIGHT, 3)
    assert info.px == (WIDTH, HEIGHT)
    assert frames[0, 5, -5, 1] > 150, "a quarter turn clockwise: green is at the upper right"
    assert frames[0, 5, 5, 1] < 50


@either
def test_a_window_shows_only_its_frames(tmp_path: Path, decoder: DecoderName) -> None:
    path = write(tmp_path / "clip.mp4", 50)
    _, info = decode_video(path, 4, decoder=decoder, window_s=(0.4, 0.8))
    assert list(info.indices) == [11, 13, 16, 18]
    with pytest.raises(VideoError, match="it lasts 2 s, and nothing of it is shown at 7 s"):
        decode_video(path, 4, decoder=decoder, window_s=(7, 8))


def test_a_still_image_is_a_video_of_one_frame(tmp_path: Path) -> None:
    path = tmp_path / "still.png"
    Image.fromarray(picture(7)).save(path)
    frames, info = decode_video(path, 3)
    assert info.indices == (0, 0, 0)
    assert np.array_equal(frames, np.stack([picture(7)] * 3))


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("transport.ts", "libx264", {}),
        ("no b.avi", "libx264", {"g": "12", "bf": "0"}),
        ("b.avi", "mpeg4", WITH_B_FRAMES | FINE),
        ("b.mp4", "mpeg4", WITH_B_FRAMES | FINE),
        ("b.mov", "mpeg2video", WITH_B_FRAMES | FINE),
        ("b.mkv", "mpeg2video", WITH_B_FRAMES | FINE),
        ("windows media.wmv", "wmv1", {"g": "12"} | FINE),
        ("flash.flv", "libx264", WITH_B_FRAMES),
        ("open groups.mp4", "libx264", WITH_B_FRAMES | {"x264-params": "open-gop=1:scenecut=0"}),
        ("open groups.mkv", "libx265", {"x265-params": "log-level=none:keyint=12:open-gop=1:qp=4"}),
        ("refreshed.mp4", "libx264", {"g": "12", "bf": "0", "x264-params": "intra-refresh=1"}),
    ],
)
def test_what_decord_reads_wrong_is_read_by_pyav(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    path = write(tmp_path / name, 40, codec=codec, pixels="yuv420p", options=options)
    for n_frames in (4, 40):
        frames, info = decode_video(path, n_frames)
        assert info.decoder.startswith("PyAV")
        assert numbers(frames) == [index % 30 for index in info.indices]
    with pytest.raises(VideoError, match="decord takes wrong frames .* choose the decoder auto or pyav"):
        decode_video(path, 4, decoder="decord")


def test_titles_in_any_encoding_are_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / "title.mp4"
    with av.open(str(path), "w", metadata_encoding="latin-1") as container:
        container.metadata["title"] = "Gr\xfc\xdfe"
        stream: Any = container.add_stream("libx264", rate=25)
        stream.height, stream.width = HEIGHT, WIDTH
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(7), format="rgb24")))
        container.mux(stream.encode())
    assert numbers(decode_video(path, 1)[0]) == [7]
    probe(str(path))


@pytest.mark.parametrize("times", [[0, 2, 1], [0, 1, np.inf], [0, np.nan, 1], [0, 0, 0]])
def test_times_that_are_none_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: list[float]
) -> None:
    path = write(tmp_path / "clip.mp4", 2)
    monkeypatch.setattr("data.pyav_video.PyAVVideo.times_s", lambda self: np.array(times, np.float64))
    with pytest.raises(VideoError, match="times in it that do not ascend"):
        video_duration_s(path, "pyav")
    with pytest.raises(VideoError, match="times in it that do not ascend"):
        decode_video(path, 2, decoder="pyav", window_s=(0, 1))


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("program stream.mpg", "mpeg2video", WITH_B_FRAMES | FINE),
        ("program stream.vob", "mpeg2video", {"g": "12"} | FINE),
        ("material.mxf", "libx264", WITH_B_FRAMES),
        ("windows media.wmv", "libx264", WITH_B_FRAMES),
        ("windows media.asf", "mpeg2video", WITH_B_FRAMES | FINE),
        ("interleaved.avi", "libx264", WITH_B_FRAMES),
        ("elementary.h264", "libx264", WITH_B_FRAMES),
        ("elementary.hevc", "libx265", {"x265-params": "log-level=none:keyint=12"}),
    ],
)
def test_frames_without_reliable_times_are_counted(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    path = write(tmp_path / name, 40, codec=codec, pixels="yuv420p", options=options)
    for n_frames in (4, 40):
        frames, info = decode_video(path, n_frames, decoder="pyav")
        assert info.n_total == 40
        assert numbers(frames) == [index % 30 for index in info.indices]
    assert video_duration_s(path, "pyav") == pytest.approx(1.6, abs=0.1)


def test_files_joined_end_to_end(tmp_path: Path) -> None:
    """The clock of the second part restarts."""
    parts = [write(tmp_path / f"{n}.ts", n, pixels="yuv420p", options=WITH_B_FRAMES) for n in (26, 14)]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames, info = decode_video(path, 40)
    assert info.indices == tuple(range(40))
    assert numbers(frames) == [*range(26), *range(14)]
    assert video_duration_s(path) == pytest.approx(1.6)
    _, info = decode_video(path, 2, window_s=(1.2, 1.6))
    assert info.indices == (32, 37)


def test_a_size_that_changes_is_refused(tmp_path: Path) -> None:
    parts = [write(tmp_path / f"{height}.ts", 20, (height, WIDTH), pixels="yuv420p") for height in (64, 80)]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(VideoError, match="of several sizes, 96x64 and 96x80: re-encode it at one size"):
        decode_video(path, 4)


def test_a_recording_that_begins_between_key_frames(tmp_path: Path) -> None:
    """Its first pictures refer to some that are not there, and are never shown."""
    options = {"g": "10", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}
    whole = write(tmp_path / "whole.ts", 40, pixels="yuv420p", options=options)
    path = tmp_path / "cut.ts"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        second_key = [n for n, packet in enumerate(packets) if packet.is_keyframe][1]
        for packet in packets[second_key:]:
            packet.stream = stream
            target.mux(packet)
    frames, info = decode_video(path, 30)
    assert info.n_total == 30 < len(packets) - second_key
    assert numbers(frames) == [(10 + index) % 30 for index in info.indices]


def test_a_video_cut_without_reencoding_shows_what_a_player_shows(tmp_path: Path) -> None:
    """An edit list hides the frames from the key frame to the cut."""
    whole = write(tmp_path / "whole.mp4", 40, pixels="yuv420p", options=WITH_B_FRAMES)
    content = bytearray(whole.read_bytes())
    at = content.index(b"elst") + 12
    duration, start = struct.unpack(">II", content[at : at + 8])
    content[at : at + 8] = struct.pack(">II", duration * 32 // 40, start + 8 * 512)
    path = tmp_path / "cut.mp4"
    path.write_bytes(bytes(content))
    for decoder in ("pyav", "auto"):
        frames, info = decode_video(path, 4, decoder=decoder)
        assert info.n_total == 32
        assert numbers(frames) == [(8 + index) % 30 for index in info.indices]


@pytest.mark.parametrize("decoder", ["auto", *DECODERS])
def test_sound_alone_is_no_video(tmp_path: Path, decoder: DecoderName) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=44100)
        for number in range(8):
            silence = np.zeros((1, 1024), np.float32)
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, 1024 * number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(VideoError, match="no video stream"):
        decode_video(path, 4, decoder=decoder)


@pytest.mark.parametrize("decoder", ["auto", *DECODERS])
def test_a_file_cut_short_behind_a_whole_index_is_refused(tmp_path: Path, decoder: DecoderName) -> None:
    """As a broken download leaves it: the index promises frames that are not there."""
    path = tmp_path / "cut.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"crf": "5"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        rng = np.random.default_rng(0)
        for _ in range(60):
            noise = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode())
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(VideoError, match="not a readable video"):
        decode_video(path, 4, decoder=decoder)
