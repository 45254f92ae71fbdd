"""Facts about a file besides its pictures, and the kinds of reason for refusing one."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Refusal = Literal[
    "missing",  # no such file, or it may not be opened
    "empty",  # no bytes, or no pictures
    "no_video",  # no video stream
    "encrypted",
    "truncated",  # ends before its stated end; refused by strict readers only
    "several_sizes",  # pictures of more than one size
    "no_times",  # times that do not ascend, or no picture in the window
    "unreadable",  # anything else that the decoders refuse
    "not_fetched",  # named by a URL, and could not be fetched in time
    "not_decoded",  # the decoder crashed, or passed its deadline
]

TRANSFERS = {
    1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear", 9: "log100",
    10: "log316", 11: "iec61966-2-4", 12: "bt1361e", 13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12",
    16: "smpte2084", 17: "smpte428", 18: "arib-std-b67",
}  # fmt: skip
"""Names of transfer functions by their numbers in ITU-T H.273, as FFmpeg spells them."""

_HDR = ("smpte2084", "arib-std-b67")


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """Facts about a file, as score rows, viewer and failures show them."""

    sar: str = "1:1"
    """Shape of a stored pixel, width:height."""
    interlaced: bool = False
    """A picture holds two fields, recorded one after the other. They are shown woven together."""
    transfer: str = ""
    """Transfer function by FFmpeg's name (bt709, smpte2084 of PQ, arib-std-b67 of HLG, ...); empty: the file
    does not state one. No tone mapping is done."""
    truncated: str = ""
    """What is missing of a file that ends before its stated end; empty: nothing."""
    damaged_frames: tuple[int, ...] = ()
    """Which of the sampled frames were decoded with errors, or may refer to such frames."""

    @property
    def marks(self) -> dict[str, Any]:
        """The unusual facts by name, which a reader of the video's score should know; most videos have
        none."""
        usual = VideoFacts(transfer="" if self.transfer in _HDR else self.transfer)
        return {name: value for name, value in asdict(self).items() if value != getattr(usual, name)}
