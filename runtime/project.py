"""The project's folder, and the new paths of folders that old configurations name."""

from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[1]

_MOVED = {"models/tiny-internvl": "demo/tiny-internvl", "data/demo/clips": "demo/built"}


def moved(path: str) -> str:
    """The new path of a file that lay in a folder of this project that has moved.

    Returns `path` itself if it is not such a path, or still exists.
    """
    full = Path(path).expanduser().absolute()
    for old, new in _MOVED.items():
        if full.is_relative_to(PROJECT_ROOT / old) and not full.exists():
            return str(PROJECT_ROOT / new / full.relative_to(PROJECT_ROOT / old))
    return path
