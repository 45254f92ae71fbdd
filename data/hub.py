"""Finds models by their names on the Hugging Face hub, with one commit for a whole run.

A run resolves a name once (`model_folder`) and passes the commit's folder in the hub's cache to its actors.
The path contains the name, the commit and the cache's folder. So an actor on a machine with a separate cache
downloads the same commit to the same path (`downloaded`).
"""

import re
from pathlib import Path

LEFT_OUT = ["*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "*.tflite"]
"""Patterns of files that are not downloaded: weights in other formats than safetensors."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_hub_name(model_path: str) -> bool:
    """Return True if `model_path` has the form owner/name and is not a local folder."""
    return (
        model_path.count("/") == 1
        and not model_path.startswith((".", "~", "/"))
        and not Path(model_path).exists()
    )


def model_folder(model_path: str, revision: str | None = None) -> str:
    """Return the folder of a model. A hub name gives the folder of one commit in the local hub cache,
    downloaded if necessary. Any other path is returned unchanged.

    Args:
        revision: commit, branch or tag of a hub name; None selects the main branch.
    Raises:
        OSError, ValueError: if the model cannot be downloaded.
    """
    if not is_hub_name(model_path):
        return model_path
    from huggingface_hub import snapshot_download

    return snapshot_download(model_path, revision=revision, ignore_patterns=LEFT_OUT)


def commit_of(folder: str) -> str | None:
    """Return the commit, if `folder` is a commit's folder in the hub's cache; None for any other path."""
    path = Path(folder)
    cached = path.parent.name == "snapshots" and path.parent.parent.name.startswith("models--")
    return path.name if cached and _COMMIT.fullmatch(path.name) else None


def hub_name_of(folder: str) -> str | None:
    """Return the hub name, if `folder` is a commit's folder in the hub's cache; None for any other path."""
    if commit_of(folder) is None:
        return None
    return Path(folder).parent.parent.name.removeprefix("models--").replace("--", "/")


def downloaded(model_path: str) -> str:
    """Return `model_path`, after downloading missing files if it is a commit's folder in the hub's cache.

    A completely cached commit needs no network. Processes on one machine wait for each other's downloads.
    Raises OSError if a file is missing and cannot be downloaded.
    """
    name = hub_name_of(model_path)
    if name is None:
        return model_path
    from huggingface_hub import snapshot_download

    cache = Path(model_path).parents[2]
    return snapshot_download(name, revision=commit_of(model_path), cache_dir=cache, ignore_patterns=LEFT_OUT)
