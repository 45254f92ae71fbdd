"""Find the model that `--checkpoint` names, and the settings for scoring with it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from data.model_view import ModelView, ModelViewError, read_view, view_of_run
from evaluation.settings import ScoringSettings
from runtime.errors import ConfigError
from runtime.project import PROJECT_ROOT, moved

SHIPPED_BASE = PROJECT_ROOT / "demo" / "tiny-internvl"
RUNS = Path("runs")

_SAMPLED_CHUNKS, _CHUNK_BYTES = 32, 64 * 1024


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model that can be loaded. `path` is a Hugging Face folder or a hub name; `name` is for display.
    `view` says how a video is presented to the model, `view_source` which file or default it came from."""

    path: str
    name: str
    view: ModelView
    view_source: str


def resolve_checkpoint(name: str | None = None, runs: Path = RUNS) -> Checkpoint:
    """Find the model called `name`.

    Args:
        name: a run directory (uses its `final/`), a Hugging Face folder or a hub name. None selects the
            newest finished run in `runs`, or the project's base model if there is none.
    Raises:
        ConfigError: if the name is none of these, or the run is unfinished. The message says how to fix it.
    """
    if name is None:
        return _of_folder(_newest_finished(runs) or SHIPPED_BASE)
    path = Path(moved(name)).expanduser()
    if path.is_dir():
        return _of_folder(path)
    owner, slash, model = name.partition("/")
    is_hub_name = slash and owner and model and "/" not in model and not name.startswith((".", "~"))
    if path.exists() or not is_hub_name or path.parent.is_dir() or owner == RUNS.name:
        raise ConfigError(
            f"--checkpoint {name}: neither an existing folder nor a hub name (owner/name); give a run "
            f"directory, the folder of a Hugging Face checkpoint, or a hub name"
        )
    return Checkpoint(name, name, ModelView(), "defaults; hub names have no scoring.json")


def scoring_settings(checkpoint: Checkpoint, **overrides: Any) -> ScoringSettings:
    """Build the settings for scoring with `checkpoint`: those of its view, then overrides that are not None.

    Raises ConfigError if a setting is unknown or its value is invalid.
    """
    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        return ScoringSettings.model_validate(
            checkpoint.view.model_dump() | {"checkpoint": checkpoint.path} | given
        )
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(p) for p in e['loc']) or 'settings'}: {e['msg']}"
            for e in error.errors()
            if e["type"] != "default_factory_not_called"  # a consequence of another problem
        ]
        raise ConfigError("\n".join(problems)) from None


def fingerprint(model: str) -> str:
    """Identify a model's weights without reading all of them.

    Returns a hash of the name, the size and samples of the content of each weight file. Returns a hub name
    unchanged.
    """
    folder = Path(model)
    if not folder.is_dir():
        return model
    digest = hashlib.sha256()
    for path in sorted([folder / "config.json", *folder.glob("*.safetensors"), *folder.glob("*.bin")]):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}\n".encode())
        with path.open("rb") as file:
            for piece in range(_SAMPLED_CHUNKS):
                file.seek(max(0, size - _CHUNK_BYTES) * piece // (_SAMPLED_CHUNKS - 1))
                digest.update(file.read(_CHUNK_BYTES))
    return digest.hexdigest()[:16]


def _newest_finished(runs: Path) -> Path | None:
    finished = [path.parent.parent for path in runs.glob("*/final/config.json")]
    return max(finished, key=lambda run: (run / "final" / "config.json").stat().st_mtime, default=None)


def _of_folder(folder: Path) -> Checkpoint:
    final = folder / "final"
    if (folder / "run.json").is_file():
        if not (final / "config.json").is_file():
            raise ConfigError(
                f"--checkpoint {folder}: this run is not finished and has no model in {final} yet; "
                f"finish it with `launch.py train --resume --run_dir={folder}`"
            )
        model = final
    elif _is_model(folder):
        model = folder
    else:
        raise ConfigError(
            f"--checkpoint {folder}: holds neither a run (run.json) nor a Hugging Face checkpoint "
            f"(config.json with a model_type)"
        )
    try:
        view = read_view(model)
    except ModelViewError as error:
        raise ConfigError(str(error)) from None
    path, shown = str(model.resolve()), _shown(folder)
    if view is not None:
        return Checkpoint(path, shown, view, "its scoring.json")
    if model is final:
        config = json.loads((folder / "config.json").read_text())
        return Checkpoint(path, shown, view_of_run(config), "the run's config.json")
    return Checkpoint(path, shown, ModelView(), "defaults; the folder has no scoring.json")


def _is_model(folder: Path) -> bool:
    try:
        return "model_type" in json.loads((folder / "config.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return False


def _shown(folder: Path) -> str:
    """The path to display: relative to the current folder if it lies inside, else absolute."""
    full = folder.resolve()
    return str(full.relative_to(Path.cwd())) if full.is_relative_to(Path.cwd()) else str(full)
