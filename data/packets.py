"""Indexes the packets of a file without decoding: when each picture is shown, from which key frame it can be
decoded, and what the file states about itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import av

from data.bitstream import is_clean_start, is_shown
from data.containers import family_of, reason_of, stated_end_s
from data.facts import TRANSFERS, VideoFacts
from data.h264 import FieldPairs
from data.video_file import Unreadable

_SLACK_S = 0.2
"""How much later than its last packet a complete file may state its end, because of the delays of audio
codecs."""

_INDEXED = ("mov", "matroska", "avi", "flv", "mxf", "mpegts", "ivf", "yuv4mpegpipe")
"""Containers in which seeking finds the requested key frame or an earlier one. (Not ASF: it stores one time
per packet, so FFmpeg guesses times for reordered frames, and guesses other times after a seek.)"""

_SEARCHED_BY_CLOCK = ("mpegts",)
"""Containers in which FFmpeg seeks by decoding time. In others it seeks by presentation time."""

_KEYED = (
    "h264", "hevc", "av1", "vp8", "vp9", "mpeg1video", "mpeg2video", "mpeg4", "mjpeg", "prores", "dnxhd",
    "ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo",
)  # fmt: skip
"""Codecs whose key frames depend on no earlier picture. In others (GIF, APNG) any picture may depend on
one."""

_PROTECTED = ("drmi", "encv")
"""Codec tags of encrypted streams in MP4."""

_PROGRESSIVE = (0, 1)  # AVFieldOrder values: unknown, progressive
_ODDEST_SAR = 10


@dataclass(frozen=True, slots=True)
class PacketIndex:
    """An index of a file's packets. Times are in the stream's time base.

    `times` are the presentation times of the pictures, ascending. `seek_to` maps the times of key frames,
    hidden ones included, to the times to pass to the container's seek.

    `uncounted` is not empty if packets do not show which pictures exist, so that all must be decoded; it is
    the reason. `times` are then the packets' times in file order, some of them None. `clock` holds decoding
    times. `clean_keys` and `edited` (an edit list hides pictures) are for decoders whose seeking is
    unreliable.
    """

    times: list[Any]
    seek_to: dict[Any, Any]
    clock: list[Any]
    last_duration: int
    uncounted: str
    clean_keys: bool
    edited: bool
    facts: VideoFacts


def index_packets(container: Any, stream: Any, path: str) -> PacketIndex:
    """Read all packets of a newly opened container. Raises Unreadable if the stream is encrypted."""
    codec = stream.codec_context.codec.canonical_name
    record = stream.codec_context.extradata or b""
    times: list[Any] = []
    clock: list[Any] = []
    durations: list[int] = []
    seek_to: dict[Any, Any] = {}
    n_packets, end_s, stopped = 0, 0.0, ""
    fields = _field_pairs(codec, record)
    if "enc_key_id" in stream.metadata or stream.codec_context.codec_tag in _PROTECTED:
        raise _encrypted()
    by_clock = family_of(container) in _SEARCHED_BY_CLOCK
    clean_keys, edited, corrupt = True, False, False
    try:
        for packet in container.demux():
            end_s = max(end_s, _end_s(packet))
            corrupt |= packet.is_corrupt
            if not packet.size or packet.stream_index != stream.index:
                continue
            if packet.has_sidedata("encryption_info"):
                raise _encrypted()
            n_packets += 1
            edited |= packet.is_discard
            content = memoryview(packet)
            if fields and fields.is_second(content):
                continue
            if packet.is_keyframe:
                seek_to[packet.pts] = packet.dts if by_clock else packet.pts
                clean_keys = clean_keys and is_clean_start(content, codec, record)
            if packet.is_discard or not is_shown(content, codec):
                continue
            # Keep only the times, because the packets of a long video would fill the memory.
            times.append(packet.pts)
            clock.append(packet.dts)
            durations.append(packet.duration or 0)
    except av.FFmpegError as error:
        stopped = reason_of(error)
    uncounted = (
        "its packets are damaged" if corrupt or stopped else _uncounted(container, stream, times, clock)
    )
    last_duration = 0
    if not uncounted and times:
        last_duration = durations[times.index(max(times))]
        times.sort()
    facts = VideoFacts(
        sar=_sar(stream),
        interlaced=stream.codec_context.field_order not in _PROGRESSIVE,
        transfer=TRANSFERS.get(stream.codec_context.color_trc, ""),
        truncated=_missing(
            container, stream, path, n_packets, end_s, _longest_s(stream, times), corrupt, stopped
        ),
    )
    return PacketIndex(times, seek_to, clock, last_duration, uncounted, clean_keys, edited, facts)


def _encrypted() -> Unreadable:
    return Unreadable("it is encrypted and has no key", "encrypted")


def ascend(times: Sequence[Any]) -> bool:
    return None not in times and all(before < after for before, after in pairwise(times))


def _uncounted(container: Any, stream: Any, times: Sequence[Any], clock: Sequence[Any]) -> str:
    """Return the reason why the packets do not give each picture's time and key frame; empty if they do."""
    family, context = family_of(container), stream.codec_context
    codec = context.codec.canonical_name
    if family not in _INDEXED:
        return f"{family} cannot be searched"
    if codec not in _KEYED:
        return f"key frames of {codec} build on pictures before them"
    if codec == "h264" and _field_pairs(codec, context.extradata or b"") is None:
        return "it does not say whether a packet holds a picture or one field of it"
    if context.format is None or context.format.has_palette:
        return "its palette comes with packets"
    if None in times or len(set(times)) < len(times):
        return "times repeat or are missing"
    known = [time for time in clock if time is not None]
    if any(before > after for before, after in pairwise(known)):
        return "its decoding times fall, as where files are joined end to end"
    return ""


def _field_pairs(codec: str, record: bytes) -> FieldPairs | None:
    try:
        return FieldPairs(record) if codec == "h264" else None
    except ValueError:
        return None


def _missing(
    container: Any,
    stream: Any,
    path: str,
    n_packets: int,
    end_s: float,
    step_s: float,
    corrupt: bool,
    stopped: str,
) -> str:
    """Describe the missing part of a file that ends too early; empty if nothing is missing.

    `step_s` is the longest known time between two pictures. The last picture, whose duration is not stated,
    may be shown for as long.
    """
    family = family_of(container)
    if stopped:
        return f"it cannot be read beyond {end_s:.1f} s ({stopped})"
    if family == "mov" and n_packets < len(stream.index_entries):
        return f"it holds {n_packets} of its {len(stream.index_entries)} frames"
    stated_s = stated_end_s(container, stream, path)
    if stated_s is not None and end_s < stated_s - step_s - _SLACK_S:
        return f"it ends at {end_s:.1f} of its {stated_s:.1f} s"
    # In a transport stream the same flag means that earlier packets were lost.
    if corrupt and family != "mpegts":
        return "it ends within a packet"
    return ""


def _end_s(packet: Any) -> float:
    time = packet.dts if packet.pts is None else packet.pts
    return 0.0 if time is None else float((time + (packet.duration or 0)) * packet.time_base)


def _longest_s(stream: Any, times: Sequence[Any]) -> float:
    known = sorted(time for time in times if time is not None)
    steps = [after - before for before, after in pairwise(known)]
    return float(max(steps) * stream.time_base) if steps else 1 / float(stream.average_rate or 25)


def _sar(stream: Any) -> str:
    sar = stream.sample_aspect_ratio
    if not sar or not 1 / _ODDEST_SAR <= sar <= _ODDEST_SAR:
        return "1:1"
    return f"{sar.numerator}:{sar.denominator}"
