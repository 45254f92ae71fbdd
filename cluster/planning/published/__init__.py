"""Configuration files of published checkpoints, which are used if only a hub name is given."""

from pathlib import Path

PUBLISHED_FOLDER = Path(__file__).parent


def folder_name(hub_name: str) -> str:
    """Return the name of the folder with the files of `hub_name` (owner/name)."""
    return hub_name.replace("/", "--")


def published_names() -> list[str]:
    """Return the hub names of the checkpoints whose files are stored here."""
    return sorted(p.parent.name.replace("--", "/") for p in PUBLISHED_FOLDER.glob("*/config.json"))
