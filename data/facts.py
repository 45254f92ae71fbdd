"""What reading a file tells about it beside its pictures, and the kinds of reason for refusing one."""

from dataclasses import dataclass
from typing import Literal

Refusal = Literal[
    "missing",  # no such file, or it may not be opened
    "empty",  # no bytes, or no pictures
    "no_video",  # no video stream
    "encrypted",
    "truncated",  # ends before its stated end; refused by a strict reader alone
    "several_sizes",  # pictures of more than one size
    "no_times",  # times that do not ascend, or no picture in the window
    "unreadable",  # anything else that the decoders refuse
    "not_decoded",  # the decoder crashed, or passed its deadline
]


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What is named about a file, as rows, viewer and failures show it."""

    sar: str = "1:1"
    """Shape of a stored pixel, width:height. Pictures are handed on with square pixels."""
    interlaced: bool = False
    """A picture holds two fields, recorded one after the other. They are shown woven together."""
    transfer: str = ""
    """Transfer function by FFmpeg's name (bt709, smpte2084 of PQ, arib-std-b67 of HLG, ...); empty: the file
    does not state one. No tone mapping is done."""
    truncated: str = ""
    """What is missing of a file that ends before its stated end; empty: nothing."""
    damaged_frames: tuple[int, ...] = ()
    """Which of the frames looked at were decoded with errors, or refer to some that were."""

    @property
    def hdr(self) -> bool:
        return self.transfer in ("smpte2084", "arib-std-b67")

    @property
    def marks(self) -> dict[str, str]:
        """What a reader of a score should know, by the name of the field: nothing for most files."""
        found = {
            "sar": self.sar if self.sar != "1:1" else "",
            "interlaced": "yes" if self.interlaced else "",
            "transfer": self.transfer if self.hdr else "",
            "truncated": self.truncated,
            "damaged_frames": ", ".join(map(str, self.damaged_frames)),
        }
        return {name: text for name, text in found.items() if text}
