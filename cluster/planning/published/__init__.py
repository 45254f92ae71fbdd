"""Files of published checkpoints: sizes and processor options, read where only a hub name is given."""

from pathlib import Path

PUBLISHED_FOLDER = Path(__file__).parent


def folder_name(hub_name: str) -> str:
    """Name of the folder that holds the files of `hub_name` (owner/name)."""
    return hub_name.replace("/", "--")


def published_names() -> list[str]:
    """Hub names of the checkpoints whose files are kept here."""
    return sorted(p.parent.name.replace("--", "/") for p in PUBLISHED_FOLDER.glob("*/config.json"))
