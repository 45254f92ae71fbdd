"""Models by their names on the Hugging Face hub: one commit for a whole run.

A run resolves a name once (`model_folder`) and passes the commit's folder in the hub's cache to its actors.
That path holds name, commit and cache, so an actor on a machine whose cache is its own downloads the same
commit to the same path (`downloaded`).
"""

import re
from pathlib import Path

LEFT_OUT = ["*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "*.tflite"]
"""Files of a repository that are not downloaded: weights in other formats than safetensors."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_hub_name(model_path: str) -> bool:
    """Whether `model_path` is owner/name, and no folder here."""
    return (
        model_path.count("/") == 1
        and not model_path.startswith((".", "~", "/"))
        and not Path(model_path).exists()
    )


def model_folder(model_path: str, revision: str | None = None) -> str:
    """The folder of a model: of a hub name, that of one commit in the hub's cache here, downloaded if it is
    not there; any other path as it is.

    Args:
        revision: commit, branch or tag of a hub name; None is its main branch.
    Raises:
        OSError, ValueError: if it cannot be downloaded.
    """
    if not is_hub_name(model_path):
        return model_path
    from huggingface_hub import snapshot_download

    return snapshot_download(model_path, revision=revision, ignore_patterns=LEFT_OUT)


def commit_of(folder: str) -> str | None:
    """The commit whose folder in the hub's cache this is; None for any other path."""
    path = Path(folder)
    cached = path.parent.name == "snapshots" and path.parent.parent.name.startswith("models--")
    return path.name if cached and _COMMIT.fullmatch(path.name) else None


def hub_name_of(folder: str) -> str | None:
    """The hub name of the model whose folder in the hub's cache this is; None for any other path."""
    if commit_of(folder) is None:
        return None
    return Path(folder).parent.parent.name.removeprefix("models--").replace("--", "/")


def downloaded(model_path: str) -> str:
    """`model_path`, complete on this machine if it is the folder of a commit in the hub's cache.

    A commit that is cached whole is not asked for over the network. Processes of one machine wait for one
    another's downloads. Raises OSError if a file is missing and cannot be downloaded.
    """
    name = hub_name_of(model_path)
    if name is None:
        return model_path
    from huggingface_hub import snapshot_download

    cache = Path(model_path).parents[2]
    return snapshot_download(name, revision=commit_of(model_path), cache_dir=cache, ignore_patterns=LEFT_OUT)
