"""Facts about a video file besides its pictures, and the kinds of reasons for refusing a file."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Refusal = Literal[
    "missing",  # the file does not exist, or permission to open it is missing
    "empty",  # no bytes, or no pictures
    "no_video",  # no video stream
    "encrypted",
    "truncated",  # the file ends before its stated end; only strict readers refuse it
    "several_sizes",  # pictures of more than one size
    "no_times",  # the pictures' times do not ascend, or no picture is in the window
    "unreadable",  # anything else that the decoders refuse
    "not_fetched",  # the video is named by a URL and could not be fetched in time
    "not_decoded",  # the decoder crashed or missed its deadline
]

TRANSFERS = {
    1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear", 9: "log100",
    10: "log316", 11: "iec61966-2-4", 12: "bt1361e", 13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12",
    16: "smpte2084", 17: "smpte428", 18: "arib-std-b67",
}  # fmt: skip
"""FFmpeg's names of transfer functions, by their numbers in ITU-T H.273."""

_HDR = ("smpte2084", "arib-std-b67")


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """Facts about a file that are shown in score rows, in the viewer and in failures."""

    sar: str = "1:1"
    """Aspect ratio of a stored pixel, width:height."""
    interlaced: bool = False
    """True if a picture consists of two fields recorded one after the other. They are shown interleaved."""
    transfer: str = ""
    """FFmpeg's name of the transfer function: bt709, smpte2084 (PQ), arib-std-b67 (HLG) and so on; empty if
    the file does not state one. No tone mapping is done."""
    truncated: str = ""
    """Description of the missing part of a file that ends before its stated end; empty if nothing is
    missing."""
    damaged_frames: tuple[int, ...] = ()
    """The sampled frames that were decoded with errors, or that may refer to such frames."""

    @property
    def marks(self) -> dict[str, Any]:
        """Return the unusual facts by name, which affect how to read the video's score. Most videos have
        none."""
        usual = VideoFacts(transfer="" if self.transfer in _HDR else self.transfer)
        return {name: value for name, value in asdict(self).items() if value != getattr(usual, name)}
