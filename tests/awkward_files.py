"""Files as the world makes them, each of one kind, and how each is to be read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np

from tests.field_coded import field_coded
from tests.numbered_pictures import SIZE, encode, ffmpeg, numbered

N = 40
X264 = "-c:v libx264 -preset veryfast -crf 8 -pix_fmt yuv420p -g 12 -bf 2"
X265 = "-c:v libx265 -preset ultrafast -crf 8 -pix_fmt yuv420p -x265-params log-level=none:keyint=12"
FINE = "-qmin 1 -q:v 1 -g 12"
VPX = "-b:v 2M -g 12 -deadline realtime -pix_fmt yuv420p"


@dataclass(frozen=True)
class AwkwardFile:
    """`reader` is "seeking", "in order", or the kind of the reason for refusing it. `marks` are the facts
    that are not as they are of most files. `filters` are FFmpeg's, for what it does not do by itself. `size`
    is that of the pictures shown. `readable`: their numbers ascend, and are where they were written.
    """

    name: str
    make: Callable[[Path], Any]
    reader: Literal["seeking", "in order"] | str = "seeking"
    decord: bool = False
    marks: dict[str, Any] = field(default_factory=dict)
    filters: str = "null"
    size: tuple[int, int] = SIZE
    readable: bool = True


def by(options: str, size: tuple[int, int] = SIZE, n: int = N) -> Callable[[Path], Any]:
    return lambda path: encode(path, options, n, size)


def copied(before: str, after: str, source: str = "whole.mp4", options: str = X264) -> Callable[[Path], Any]:
    """Encode, then copy the packets, with options before and behind the name of the source."""

    def make(path: Path) -> None:
        whole = encode(path.with_name(f"{path.stem}-{source}"), options, N)
        ffmpeg(*before.split(), "-i", str(whole), "-c", "copy", *after.split(), str(path))

    return make


def cut_short(options: str, part: float = 0.6) -> Callable[[Path], Any]:
    """As a broken download leaves it."""

    def make(path: Path) -> None:
        content = encode(path, options, N).read_bytes()
        path.write_bytes(content[: int(len(content) * part)])

    return make


def with_sound(options: str, video: str = X264) -> Callable[[Path], Any]:
    """Of another length than the pictures, which is no sign of a cut."""

    def make(path: Path) -> None:
        pictures = encode(path.with_name(f"silent-{path.name}"), video, N)
        sound = ["-f", "lavfi", "-i", "sine=duration=2.3"]
        ffmpeg("-i", str(pictures), *sound, "-c:v", "copy", *options.split(), str(path))

    return make


def matrix(
    name: str, out_range: str = "tv", transfer: str = "", pixels: str = "yuv420p"
) -> Callable[[Path], Any]:
    convert = f"-vf scale=out_color_matrix={name}:out_range={out_range},format={pixels}"
    tagged = f"{convert},setparams=color_trc={transfer}" if transfer else convert
    return by(f"{tagged} {X264.replace('yuv420p', pixels)}")


def damaged(path: Path) -> None:
    """Bytes in the middle of one picture are others."""
    encode(path, X264, N)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    packet = packets[14]
    assert packet.pos is not None
    for at in range(packet.pos + packet.size // 3, packet.pos + packet.size // 2):
        content[at] ^= 0x5A
    path.write_bytes(bytes(content))


def with_losses(path: Path) -> None:
    """A transport stream from which some packets are missing."""
    content = encode(path, X264, N).read_bytes()
    packets = [content[at : at + 188] for at in range(0, len(content), 188)]
    path.write_bytes(
        b"".join(p for n, p in enumerate(packets) if n not in range(len(packets) // 2, len(packets) // 2 + 3))
    )


def in_fields(path: Path) -> None:
    """The lower field of a picture is a packet of its own."""
    planes = []
    for number in range(31):
        frame = av.VideoFrame.from_ndarray(numbered(number), format="rgb24").reformat(format="yuv420p")
        planes.append(tuple(_plane(p) for p in frame.planes))
    raw = path.with_name(f"{path.name}.h264")
    raw.write_bytes(b"".join(field_coded(planes, key_every=6)))  # type: ignore[arg-type]
    if path.suffix == ".h264":
        raw.rename(path)
    else:
        ffmpeg("-fflags", "+genpts", "-i", str(raw), "-c", "copy", str(path))


def _plane(plane: Any) -> np.ndarray:
    pixels = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return pixels[:, : plane.width]


def joined(path: Path) -> None:
    """Two recordings, end to end: the clock of the second starts afresh, and its packets are numbered as if
    some before them were lost."""
    parts = [encode(path.with_name(f"{n}-{path.name}"), X264, n) for n in (26, 14)]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))


def cut_at_the_start(path: Path) -> None:
    """A recording that begins between key frames."""
    content = encode(path, f"{X264} -x264-params open-gop=1:scenecut=0", N).read_bytes()
    path.write_bytes(content[len(content) // 188 // 5 * 188 :])


def vp9_with_hidden_packets(path: Path) -> None:
    """References that are not shown are packets of their own. An encoder makes some in the second of two
    passes, and joins them to others."""
    pictures = encode(path.with_name("pictures.mkv"), "-c:v ffv1 -pix_fmt yuv420p", N)
    whole, log = (str(path.with_name(name)) for name in ("whole.webm", "log"))
    options = f"-c:v libvpx-vp9 {HIDDEN}".split()
    for number, target in (("1", ("-f", "null", "-")), ("2", (whole,))):
        ffmpeg("-i", str(pictures), "-passlogfile", log, "-pass", number, *options, *target)
    split = ["-c", "copy", "-bsf:v", "vp9_superframe_split", "-fflags", "-autobsf"]
    ffmpeg("-i", whole, *split, str(path))


def webm_encryption(path: Path) -> None:
    """A track that says that it is encrypted. Its packets begin with a byte that says the same of them."""
    content = encode(path, f"-c:v libvpx-vp9 {VPX} -live 1", N).read_bytes()
    key = (
        _element("47e1", b"\5")
        + _element("47e2", bytes(range(16)))
        + _element("47e7", _element("47e8", b"\1"))
    )
    encoding = [("5031", b"\0"), ("5032", b"\1"), ("5033", b"\1"), ("5035", key)]
    added = _element("6d80", _element("6240", b"".join(_element(*part) for part in encoding)))
    # Behind the list of where things are, which names them, too: sizes are stored in eight bytes.
    head = content.index(b"\x16\x54\xae\x6b", content.index(b"\x16\x54\xae\x6b") + 1)
    start, track = _behind_size(content, head + 4), content.index(b"\xae\x01", head)
    size = int.from_bytes(content[track + 2 : track + 9], "big")
    tracks = b"\xae" + _size(size + len(added)) + content[track + 9 : track + 9 + size] + added
    rest = content[track + 9 + size :]
    assert start == track
    path.write_bytes(content[:head] + b"\x16\x54\xae\x6b" + _size(len(tracks)) + tracks + rest)


def cbcs(path: Path) -> None:
    """Named as the other scheme of MP4; which it is makes no difference without a key."""
    content = encode(path, f"{X264} {CENC}", N).read_bytes()
    assert content.count(b"cenc") == 1
    path.write_bytes(content.replace(b"cenc", b"cbcs"))


def several_sizes(path: Path) -> None:
    parts = [encode(path.with_name(f"{h}-{path.name}"), X264, 20, (h, 96)) for h in (64, 80)]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))


def _element(name: str, content: bytes) -> bytes:
    return bytes.fromhex(name) + bytes([0x80 | len(content)]) + content


def _size(size: int) -> bytes:
    return b"\1" + size.to_bytes(7, "big")


def _behind_size(content: bytes, at: int) -> int:
    return at + 9 - content[at].bit_length()


NO_B = X264.replace("-bf 2", "-bf 0")
OPEN = "-x264-params open-gop=1:scenecut=0"
LOSSLESS = "-c:v ffv1 -level 3 -pix_fmt"
CENC = f"-encryption_scheme cenc-aes-ctr -encryption_key {'0f' * 16} -encryption_kid {'1e' * 16}"
GAP = "-vf setpts=PTS+gt(N\\,20)*6/25/TB -fps_mode passthrough"
OVER_BLACK = "format=gbrap,premultiply=inplace=1"
HIDDEN = "-b:v 300k -g 100 -pix_fmt yuv420p -auto-alt-ref 6 -lag-in-frames 25"
FADED = "-vf format=rgba,geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='if(gt(X,48),255,90)'"
ANY_ORDER = "in order"
WIDE = "-vf setsar=4/3"
DAMAGED = "some"

FILES = [
    # Containers and codecs.
    AwkwardFile("h264.mp4", by(X264), decord=True),
    AwkwardFile("h264.mkv", by(X264), decord=True),
    AwkwardFile("h264.ts", by(X264)),
    AwkwardFile("h264.flv", by(X264)),
    AwkwardFile("h264.mxf", by(X264), ANY_ORDER),
    AwkwardFile("h264-b.avi", by(X264), ANY_ORDER),
    AwkwardFile("elementary.h264", by(X264), ANY_ORDER),
    AwkwardFile("longer-sound.mkv", with_sound("-c:a flac"), decord=True),
    AwkwardFile("longer-sound.avi", with_sound("-c:a pcm_s16le", NO_B)),
    AwkwardFile("longer-sound.mp4", with_sound("-c:a aac"), decord=True),
    AwkwardFile("fragments.mp4", by(f"{X264} -movflags +frag_keyframe+empty_moov")),
    AwkwardFile("hevc.mp4", by(f"{X265}:open-gop=0"), decord=True),
    AwkwardFile("av1.mp4", by("-c:v libsvtav1 -preset 12 -crf 10 -g 12 -pix_fmt yuv420p")),
    AwkwardFile("vp8.webm", by(f"-c:v libvpx {VPX}"), decord=True),
    AwkwardFile("vp9.webm", by(f"-c:v libvpx-vp9 {VPX}"), decord=True),
    AwkwardFile("vp9.ivf", by(f"-c:v libvpx-vp9 {VPX}")),
    AwkwardFile("mpeg1.mpg", by(f"-c:v mpeg1video {FINE} -bf 2"), ANY_ORDER),
    AwkwardFile("mpeg2.vob", by(f"-c:v mpeg2video {FINE} -bf 2"), ANY_ORDER),
    AwkwardFile("mpeg2.ts", by(f"-c:v mpeg2video {FINE} -bf 2")),
    AwkwardFile("mpeg4-b.avi", by(f"-c:v mpeg4 {FINE} -bf 2")),
    AwkwardFile("mpeg4.mov", by(f"-c:v mpeg4 {FINE} -bf 2")),
    AwkwardFile("mjpeg.avi", by("-c:v mjpeg -q:v 1 -pix_fmt yuvj420p")),
    AwkwardFile("prores.mov", by("-c:v prores_ks -profile:v 3")),
    AwkwardFile("huffyuv.avi", by("-c:v huffyuv")),
    AwkwardFile("theora.ogv", by("-c:v libtheora -q:v 10 -g 12"), ANY_ORDER),
    AwkwardFile("wmv2.wmv", by(f"-c:v wmv2 {FINE}"), ANY_ORDER),
    AwkwardFile("rv20.rm", by(f"-c:v rv20 {FINE}"), ANY_ORDER),
    AwkwardFile("raw.y4m", by("-pix_fmt yuv420p")),
    AwkwardFile("parts.gif", by("-vf split[a][b];[a]palettegen[p];[b][p]paletteuse"), ANY_ORDER),
    AwkwardFile("parts.apng", by("-c:v apng"), ANY_ORDER),
    AwkwardFile("still.png", by("-update 1 -frames:v 1", n=1), ANY_ORDER),
    # Pixel formats: a palette, no colour, transparency, more bits, no halved colour.
    AwkwardFile("pal8.avi", by("-c:v rawvideo -pix_fmt pal8"), ANY_ORDER),
    AwkwardFile("gray.mkv", by(f"{LOSSLESS} gray")),
    AwkwardFile("gray10le.mkv", by(f"{LOSSLESS} gray10le")),
    AwkwardFile("ya8.mkv", by(f"{FADED},format=ya8 {LOSSLESS} ya8"), filters=OVER_BLACK, readable=False),
    AwkwardFile("rgba.mov", by(f"{FADED} -c:v qtrle"), ANY_ORDER, filters=OVER_BLACK, readable=False),
    AwkwardFile("yuva420p.mkv", by(f"{FADED} {LOSSLESS} yuva420p"), filters=OVER_BLACK, readable=False),
    AwkwardFile("yuva444p10le.mov", by(f"{FADED} -c:v prores_ks -profile:v 4 -pix_fmt yuva444p10le"),
                filters=OVER_BLACK, readable=False),
    AwkwardFile("yuv422p10le.mkv", by(f"{LOSSLESS} yuv422p10le")),
    AwkwardFile("yuv444p.mp4", by(X264.replace("yuv420p", "yuv444p")), decord=True),
    AwkwardFile("gbrp.mkv", by(f"{LOSSLESS} gbrp")),
    # Matrices and ranges.
    AwkwardFile("bt601.mp4", matrix("smpte170m")),
    AwkwardFile("bt709.mp4", matrix("bt709")),
    AwkwardFile("bt709-full.mp4", matrix("bt709", "pc")),
    AwkwardFile("smpte240m.mp4", matrix("smpte240m")),
    AwkwardFile("pq.mp4", matrix("bt2020", "tv", "smpte2084", "yuv420p10le"),
                marks={"transfer": "smpte2084"}),
    AwkwardFile("hlg.mp4", matrix("bt2020", "tv", "arib-std-b67", "yuv420p10le"),
                marks={"transfer": "arib-std-b67"}),
    # Groups of pictures.
    AwkwardFile("every-one-a-key.mp4", by(f"{X264} -g 1"), decord=True),
    AwkwardFile("one-key.mp4", by(f"{X264} -g 1000 -sc_threshold 0"), decord=True),
    AwkwardFile("open-groups.mp4", by(f"{X264} {OPEN}")),
    AwkwardFile("open-groups-hevc.mkv", by(f"{X265}:open-gop=1")),
    AwkwardFile("refreshed.mkv", by(f"{NO_B} -x264-params intra-refresh=1"), ANY_ORDER),
    AwkwardFile("hidden-packets.webm", vp9_with_hidden_packets),
    # Times.
    AwkwardFile("variable-rate.mp4", by(f"{GAP} {X264}"), decord=True),
    AwkwardFile("empty-chunks.avi", by(f"{GAP} {NO_B}")),
    AwkwardFile("repeated-times.mkv", copied("", "-bsf:v setts=ts='floor(TS/80)*80'", "whole.mkv", NO_B),
                ANY_ORDER),
    AwkwardFile("edited.mp4", copied("-ss 0.36", "")),
    AwkwardFile("edited-end.mp4", copied("-ss 0.36", "-t 0.6")),
    AwkwardFile("joined.ts", joined, ANY_ORDER, marks={"damaged_frames": DAMAGED}, readable=False),
    AwkwardFile("cut-at-the-start.ts", cut_at_the_start),
    # Fields.
    AwkwardFile("fields.mp4", in_fields, marks={"interlaced": True}),
    AwkwardFile("fields.ts", in_fields, marks={"interlaced": True}),
    AwkwardFile("fields.h264", in_fields, ANY_ORDER, marks={"interlaced": True}),
    AwkwardFile("mixed-fields.ts", by(f"-vf setfield=tff {X264} -flags +ilme+ildct"),
                marks={"interlaced": True}),
    AwkwardFile("interlaced.ts", by(f"-vf setfield=tff -c:v mpeg2video {FINE} -bf 2 -flags +ilme+ildct"),
                marks={"interlaced": True}),
    # Shapes.
    AwkwardFile("odd.mp4", by(X264.replace("yuv420p", "yuv444p"), (63, 95)), size=(63, 95), decord=True),
    AwkwardFile("odd.webm", by(f"-c:v libvpx-vp9 {VPX}", (63, 95)), size=(63, 95), decord=True),
    AwkwardFile("turned.mp4", copied("-display_rotation 90", ""), size=(96, 64), readable=False, decord=True),
    AwkwardFile("mirrored.mp4", copied("-display_hflip", ""), readable=False),
    AwkwardFile("upside-down.mp4", copied("-display_vflip", ""), readable=False),
    AwkwardFile("turned-and-mirrored.mp4", copied("-display_rotation 90 -display_hflip", ""), size=(96, 64),
                readable=False),
    AwkwardFile("wide-pixels.mp4", by(f"{WIDE} {X264}"), marks={"sar": "4:3"}, size=(64, 128),
                filters="scale=iw*sar:ih:flags=lanczos,setsar=1", readable=False, decord=True),
    AwkwardFile("wide-pixels-turned.mp4", copied("-display_rotation 90", "", options=f"{WIDE} {X264}"),
                marks={"sar": "4:3"}, size=(128, 64), filters="scale=iw:ih/sar:flags=lanczos,setsar=1",
                readable=False, decord=True),
    # What is not whole.
    AwkwardFile("damaged.mp4", damaged, ANY_ORDER, marks={"damaged_frames": DAMAGED}),
    AwkwardFile("with-losses.ts", with_losses, ANY_ORDER, marks={"damaged_frames": DAMAGED}, readable=False),
    AwkwardFile("cut.mp4", cut_short(f"{X264} -movflags faststart"), ANY_ORDER,
                marks={"truncated": "of its 40 frames"}),
    AwkwardFile("cut.mkv", cut_short(X264), marks={"truncated": "it ends at"}),
    AwkwardFile("cut.webm", cut_short(f"-c:v libvpx-vp9 {VPX}"), marks={"truncated": "it ends at"}),
    AwkwardFile("cut.avi", cut_short("-c:v mjpeg -q:v 1 -pix_fmt yuvj420p"), ANY_ORDER,
                marks={"truncated": "it ends at"}),
    AwkwardFile("cut.flv", cut_short(X264), ANY_ORDER, marks={"truncated": "it ends at"}),
    AwkwardFile("cut.wmv", cut_short(f"-c:v wmv2 {FINE}", 0.4), ANY_ORDER, readable=False,
                marks={"truncated": "it ends at", "damaged_frames": DAMAGED}),
    AwkwardFile("cut.mxf", cut_short(X264), ANY_ORDER, marks={"truncated": "it ends at"}),
    # What cannot be shown.
    AwkwardFile("without-index.mp4", cut_short(X264), "truncated"),
    AwkwardFile("cenc.mp4", by(f"{X264} {CENC}"), "encrypted"),
    AwkwardFile("cbcs.mp4", cbcs, "encrypted"),
    AwkwardFile("encrypted.webm", webm_encryption, "encrypted"),
    AwkwardFile("several-sizes.ts", several_sizes, "several_sizes"),
]  # fmt: skip
