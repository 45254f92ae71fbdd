"""`launch.py compare` of two folders with a real engine, killed and resumed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from evaluation.models import SHIPPED_BASE
from tests.runs import nothing_left

ROOT = Path(__file__).resolve().parents[2]
CLIPS = ROOT / "demo" / "built" / "test"
N_PAIRS = 27

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(900)]


def test_folders_killed_and_resumed(tmp_path: Path) -> None:
    """kill -9 in mid-run: the same command resumes, scores every clip once, and reports every pair."""
    folders = [tmp_path / "x264", tmp_path / "noise"]
    for folder, kind in zip(folders, ("h264", "noise"), strict=True):
        folder.mkdir()
        for number in range(N_PAIRS):
            shutil.copy(CLIPS / f"test-{kind}-{number:03d}.mp4", folder / f"{number}.mp4")
    (folders[0] / "broken.mp4").write_text("no video")
    shutil.copy(CLIPS / "test-h264-000.mp4", folders[1] / "broken.mp4")
    out = tmp_path / "scores.jsonl"
    command = [
        sys.executable, str(ROOT / "launch.py"), "compare", *map(str, folders), "--samples", "8", "--json",
        "--out", str(out), "--picture", str(tmp_path / "out.png"), "--checkpoint", str(SHIPPED_BASE),
    ]  # fmt: skip
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 250
        while (not out.exists() or out.read_bytes().count(b"\n") < 4) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert nothing_left(process.pid) == []
    before = out.read_bytes()
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    kept = before[: before.rfind(b"\n")]
    assert kept.count(b"\n") >= 3, (tmp_path / "log").read_text()
    assert out.read_bytes().startswith(kept), "what was scored is left alone"
    paths = Counter(json.loads(line)["path"] for line in out.read_text().splitlines())
    assert len(paths) == 2 * (N_PAIRS + 1)
    assert set(paths.values()) == {1}
    assert before.count(b"\n") < len(paths), "it was killed too late to show anything"
    found = json.loads(done.stdout)
    reasons = {Path(f["video"]).name: f["failure"] for f in found["failed"]}
    assert "not a readable video" in reasons.pop("broken.mp4")
    # The base answers above 5 now and then, which does not parse.
    assert all("sampled answers parse" in reason for reason in reasons.values())
    assert len(reasons) < N_PAIRS / 3
    (of,) = found["folders"]
    assert of["pairs"] == len(found["pairs"]) == N_PAIRS - len(reasons)
    assert of["first_better"] + of["second_better"] + of["same"] == of["pairs"]
    assert of["low"] < of["mean_difference"] < of["high"]
    assert (tmp_path / "out.png").stat().st_size > 5000
