"""How long the viewer takes to open and to change views, on a generated run of 1,000 updates.

    python -m benchmarks.viewer --json viewer.json

The run has 64 videos of 8 completions an update, each with a perturbed copy, and texts of about 150
characters. Times are those of the answers over HTTP: a browser draws on top of them. The first view is timed
from the start of the process; every view is asked for twice. The CPU seconds are the viewer's own, which tell
more on a machine that does something else as well.
"""

import argparse
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np

from benchmarks.machine import describe_machine, write_figures

ROOT = Path(__file__).resolve().parent.parent
EVALUATED_VIDEOS = 1000
EVALUATIONS = 20
VIDEOS = 4000
WORKERS = 12
START_TIMEOUT_S = 60.0
_WORDS = [
    "the",
    "video",
    "shows",
    "slight",
    "visible",
    "blocking",
    "around",
    "moving",
    "edges",
    "while",
    "static",
    "regions",
    "keep",
    "fine",
    "texture",
    "colours",
    "look",
    "natural",
    "exposure",
    "is",
    "stable",
    "motion",
    "judders",
    "briefly",
    "noise",
    "appears",
    "in",
    "darker",
    "areas",
    "and",
]


class GeneratedRun:
    """Writes a run directory as a training run would; the same seed writes the same one."""

    def __init__(self, path: Path, updates: int, videos: int, completions: int, seed: int = 0) -> None:
        self.path = path
        self._updates, self._videos, self._completions = updates, videos, completions
        self._rng = np.random.default_rng(seed)
        self._texts = [self._trace() for _ in range(500)]

    def write(self) -> None:
        (self.path / "predictions").mkdir(parents=True)
        data = {"manifest": str(self.path / "clips" / "manifest.csv"), "frames_per_video": 6}
        schedule = {"updates": self._updates}
        self._write("config.json", [{"name": "generated", "data": data, "schedule": schedule}])
        self._write("run.json", [{"attempts": [{"from_version": 0, "started": 1.7e9}]}])
        self._write("groups.jsonl", (g for u in range(self._updates) for g in self._groups(u)))
        self._write("metrics.jsonl", (self._metrics(u) for u in range(self._updates)))
        self._write("evaluations.jsonl", self._evaluations())
        self._write("failures.jsonl", [])

    def _write(self, name: str, records: Any) -> None:
        with (self.path / name).open("w") as file:
            for record in records:
                file.write(json.dumps(record) + "\n")

    def _trace(self) -> str:
        words = " ".join(self._rng.choice(_WORDS, 18))
        return f"<think>{words}</think><answer>"

    def _groups(self, update: int) -> Iterator[dict[str, Any]]:
        for video in self._rng.choice(VIDEOS, self._videos, replace=False).tolist():
            mos = 1 + 4 * (video * 0.618 % 1)
            ref = {"video_id": f"video-{video:05d}", "path": f"{self.path}/clips/{video}.mp4", "n_frames": 6}
            clean = self._copy(update, mos) | {"ref": ref | {"perturbation": None, "window_s": None}}
            rewards = self._rng.random((5, self._completions)).round(5).tolist()
            names = ("regression", "ranking", "temporal", "format", "total")
            clean |= dict(zip(names, rewards, strict=True)) | {"advantages": rewards[0]}
            perturbation = {"kind": "reverse", "seed": int(self._rng.integers(2**62))}
            yield {
                "attempt": 0, "update": update, "epoch": 0, "cohort": update, "video_id": ref["video_id"],
                "mos": round(mos, 3), "label_set": "generated", "status": "trained", "reason": "",
                "worker": f"rollout-{video % WORKERS}", "clean": clean,
                "perturbed": self._copy(update, mos) | {"ref": ref | {"perturbation": perturbation}},
            }  # fmt: skip

    def _copy(self, update: int, mos: float) -> dict[str, Any]:
        n = self._completions
        noise = 1.2 * math.exp(-update / 400) + 0.2
        scores = np.clip(mos + noise * self._rng.standard_normal(n), 1, 5).round(2).tolist()
        texts = [self._texts[i] for i in self._rng.integers(len(self._texts), size=n)]
        return {
            "texts": [f"{text}{score:.2f}</answer>" for text, score in zip(texts, scores, strict=True)],
            "finish_reasons": ["stop"] * n,
            "versions": [[update]] * n,
            "seeds": self._rng.integers(2**62, size=n).tolist(),
            "scores": scores,
        }

    def _metrics(self, update: int) -> dict[str, Any]:
        names = [f"reward/{n}" for n in ("total", "regression", "ranking", "temporal", "format", "group_std")]
        names += [f"policy/{n}" for n in ("kl_to_base", "mismatch_kl", "entropy", "clip_fraction")]
        names += [f"learner/{n}" for n in ("loss", "grad_norm", "lr", "tokens", "tokens_per_s", "update_s")]
        names += [f"rollout/{n}" for n in ("completion_tokens", "tokens", "unparsed_ratio", "score_std")]
        names += [f"timing/{n}" for n in ("step_s", "wait_s")] + ["sync/s", "sync/gather_s", "sync/load_s"]
        names += ["staleness/max", *(f"extra/metric_{i}" for i in range(10))]
        values = dict(zip(names, self._rng.random(len(names)).tolist(), strict=True))
        return {"attempt": 0, "update": update, "time": 1.7e9 + 1.2 * update} | values

    def _evaluations(self) -> Iterator[dict[str, Any]]:
        for version in np.linspace(0, self._updates, EVALUATIONS).astype(int).tolist():
            srcc = 0.2 + 0.6 * version / self._updates
            figures = {"srcc": srcc, "srcc_low": srcc - 0.05, "srcc_high": srcc + 0.05, "plcc": srcc}
            yield {"attempt": 0, "update": version - 1, "version": version, "split": "test",
                   "videos": EVALUATED_VIDEOS, "unparsed": 0, "failed": 0} | figures  # fmt: skip
            self._write(f"predictions/v{version:06d}-test.jsonl", self._predictions())

    def _predictions(self) -> Iterator[dict[str, Any]]:
        for video in range(EVALUATED_VIDEOS):
            mos = 1 + 4 * self._rng.random()
            score = round(float(np.clip(mos + self._rng.normal(0, 0.7), 1, 5)), 2)
            yield {"video_id": f"test-{video:04d}", "path": f"{self.path}/clips/test-{video}.mp4",
                   "mos": round(mos, 3), "source": str(video // 4), "headline": True,
                   "distortion": ("blur", "noise", "hevc")[video % 3], "greedy": score,
                   "text": f"{self._texts[video % 500]}{score:.2f}</answer>", "samples": [],
                   "failure": ""}  # fmt: skip


class Viewer:
    """A viewer in a process of its own, and the seconds of its answers."""

    def __init__(self, run: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._name = run.name
        self._address = f"http://127.0.0.1:{port}/"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.started = time.perf_counter()
        command = [
            sys.executable,
            str(ROOT / "launch.py"),
            "view",
            str(run),
            "--no-browser",
            f"--port={port}",
        ]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)

    def __enter__(self) -> "Viewer":
        while time.perf_counter() - self.started < START_TIMEOUT_S:
            try:
                self._opener.open(self._address, timeout=START_TIMEOUT_S).close()
            except OSError:
                time.sleep(0.02)
            else:
                return self
        raise RuntimeError(f"the viewer did not answer within {START_TIMEOUT_S:g} s")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def cpu_s(self) -> float:
        """CPU seconds of the viewer's process so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def get(self, path: str, **parameters: Any) -> tuple[float, int, Any]:
        """(seconds, bytes, data) of a request."""
        begun = time.perf_counter()
        query = urlencode({"run": self._name} | parameters)
        with self._opener.open(f"{self._address}{path}?{query}", timeout=START_TIMEOUT_S) as answer:
            body = answer.read()
        return time.perf_counter() - begun, len(body), json.loads(body) if path.startswith("api/") else None


def measure(run: Path, updates: int) -> list[dict[str, Any]]:
    """Rows of what was asked for, and what it took."""
    rows: list[dict[str, Any]] = []
    with Viewer(run) as viewer:

        def ask(what: str, *requests: tuple[str, dict[str, Any]], since: float | None = None) -> Any:
            begun = time.perf_counter() if since is None else since
            cpu_before_s = viewer.cpu_s() if since is None else 0.0
            answers = [viewer.get(path, **parameters) for path, parameters in requests]
            size = sum(size for _, size, _ in answers)
            seconds, cpu_s = time.perf_counter() - begun, viewer.cpu_s() - cpu_before_s
            rows.append({"view": what, "seconds": seconds, "cpu_s": cpu_s, "bytes": size})
            return answers[-1][2]

        middle = updates // 2
        first: list[tuple[str, dict[str, Any]]] = [
            ("plotly.min.js", {}),
            ("api/runs", {}),
            ("api/curves", {}),
        ]
        ask("start to the first curves", *first, since=viewer.started)
        ask("spread over groups (reads every group once)", ("api/spread", {}))
        for again in ("", ", again"):
            groups = ask(f"videos{again}", ("api/updates", {}), ("api/groups", {"update": middle}))
            group = {"offset": groups["offset"][0]}
            video = {"video": groups["video_id"][0]}
            ask(f"videos: one group and its history{again}", ("api/group", group), ("api/history", video))
            asked = {"version": updates, "split": "test"}
            ask(f"ranking{again}", ("api/evaluations", {}), ("api/ranking", asked))
            clip = {"split": "test", "video": "test-0001"}
            ask(f"ranking: one clip over all evaluations{again}", ("api/clip", clip))
            ask(f"fleet{again}", ("api/fleet", {}))
            ask(f"curves{again}", ("api/curves", {}), ("api/spread", {}))
        ask("news, nothing new", ("api/runs", {}))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--videos", type=int, default=64, help="groups an update")
    parser.add_argument("--completions", type=int, default=8)
    parser.add_argument("--run", type=Path, help="keep the generated run here, or use the one that is there")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run: Path = arguments.run or Path(temporary) / "generated"
        if not run.exists():
            GeneratedRun(run, arguments.updates, arguments.videos, arguments.completions).write()
        size_mb = (run / "groups.jsonl").stat().st_size / 1e6
        rows = measure(run, arguments.updates)
    print(f"{arguments.updates} updates of {arguments.videos} x {arguments.completions} completions, "
          f"groups.jsonl {size_mb:.0f} MB\n")  # fmt: skip
    write_figures({"machine": describe_machine(), "groups_mb": round(size_mb), "views": rows}, arguments.json)


if __name__ == "__main__":
    main()
