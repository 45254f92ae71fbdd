"""The project's folder, and the new paths of moved folders that old configurations still name."""

from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[1]

_MOVED = {"models/tiny-internvl": "demo/tiny-internvl", "data/demo/clips": "demo/built"}


def moved(path: str) -> str:
    """The new path of a file in a folder of this project that was moved.

    Returns `path` unchanged if it is not in such a folder, or still exists.
    """
    full = Path(path).expanduser().absolute()
    for old, new in _MOVED.items():
        if full.is_relative_to(PROJECT_ROOT / old) and not full.exists():
            return str(PROJECT_ROOT / new / full.relative_to(PROJECT_ROOT / old))
    return path
