"""Pictures that carry their own number, in blocks too large for a codec to lose, and FFmpeg's own program to
encode them and to decode them again: a decoder that is not ours.
"""

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np

BLOCK = 16
BITS = 8
SIZE = (64, 96)

_COLOURS = np.array(
    [
        (200, 40, 40), (40, 180, 60), (50, 60, 200), (210, 200, 50), (60, 190, 190), (190, 60, 190),
        (128, 128, 128), (230, 230, 230), (30, 30, 30), (220, 130, 50), (90, 60, 140), (150, 200, 120),
    ],
    np.uint8,
)  # fmt: skip
_DARK, _BRIGHT = 24, 232


def numbered(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """uint8 [height, width, 3]: blocks, row by row; the first eight are the number in binary, the others are
    of colours that tell one matrix from another, and one corner of the picture from the others."""
    height, width = size
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    blocks = np.resize(_COLOURS, (rows * columns, 3))
    blocks[:BITS] = [[_BRIGHT if number >> bit & 1 else _DARK] * 3 for bit in range(BITS)]
    picture = blocks.reshape(rows, columns, 3).repeat(BLOCK, 0).repeat(BLOCK, 1)
    return np.ascontiguousarray(picture[:height, :width])


def number_of(picture: np.ndarray) -> int:
    """Of a picture that is as wide as it was made."""
    columns = -(-picture.shape[1] // BLOCK)
    number = 0
    for bit in range(BITS):
        row, column = divmod(bit, columns)
        block = picture[row * BLOCK : (row + 1) * BLOCK, column * BLOCK : (column + 1) * BLOCK]
        number |= (block.mean() > (_DARK + _BRIGHT) / 2) << bit
    return number


def block_means(pictures: np.ndarray) -> np.ndarray:
    """float [n, rows, columns, 3]: the mean colour of each block, of pictures [n, height, width, 3]; the rest
    that is no whole block is left out."""
    n, height, width, _ = pictures.shape
    rows, columns = height // BLOCK, width // BLOCK
    whole = pictures[:, : rows * BLOCK, : columns * BLOCK].reshape(n, rows, BLOCK, columns, BLOCK, 3)
    return whole.mean((2, 4), dtype=np.float64)


def ffmpeg(*arguments: str, content: bytes | None = None) -> bytes:
    """What FFmpeg's program writes to its standard output."""
    program = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-y", "-threads", "1"]
    done = subprocess.run([*program, *arguments], input=content, capture_output=True, timeout=60)
    if done.returncode:
        raise RuntimeError(f"ffmpeg {' '.join(arguments)}: {done.stderr.decode()}")
    return done.stdout


def encode(path: Path, options: str, n: int, size: tuple[int, int] = SIZE, rate: int = 25) -> Path:
    """A file of the numbers 0 to `n` - 1, made with FFmpeg's `options` for an output."""
    pictures = b"".join(numbered(number, size).tobytes() for number in range(n))
    form = f"-f rawvideo -pix_fmt rgb24 -s {size[1]}x{size[0]} -r {rate} -i -".split()
    ffmpeg(*form, "-threads", "1", *options.split(), str(path), content=pictures)
    return path


def decode_in_order(path: Path, size: tuple[int, int], filters: str = "null") -> np.ndarray:
    """All pictures of a file as FFmpeg's program shows them: uint8 [n, height, width, 3]."""
    output = f"-vf {filters} -fps_mode passthrough -f rawvideo -pix_fmt rgb24 -".split()
    pixels = ffmpeg("-i", str(path), *output)
    return np.frombuffer(pixels, np.uint8).reshape(-1, *size, 3)
