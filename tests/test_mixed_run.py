"""A training run on a manifest in which good clips lie among broken, encrypted, damaged, very short and very
large files: every row ends once, with its reason."""

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data.manifest import read_manifest
from tests.awkward_files import cut, damaged, encrypted, write
from tests.conftest import moving_frames
from tests.runs import BASE, PATIENCE_S, ROOT, command, lines, nothing_left

pytestmark = [pytest.mark.slow, pytest.mark.engine, pytest.mark.timeout(1200)]

EPOCHS = 2
FAILING = {
    "cut.mkv": "it ends at",
    "cut.mp4": "cut short",
    "empty.mp4": "the file is empty",
    "encrypted.mp4": "it is encrypted",
    "text.mp4": "not a readable video",
}
TRAINED = ("4k.mp4", "damaged.mp4", "one-frame.mp4")


def mixed_set(folder: Path) -> Path:
    """Nine clips of the demo to train on and four to test, and the files above."""
    clips = read_manifest(ROOT / "data" / "demo" / "clips" / "manifest.csv")
    train = [video for video in clips if video.split == "train"][:9]
    test = [video for video in clips if video.split == "test"][:4]
    rows = ["path,mos,split"]
    for video in (*train, *test):
        shutil.copy(video.path, folder)
        rows.append(f"{Path(video.path).name},{video.mos},{video.split}")
    noise = np.random.default_rng(1).integers(-20, 20, (24, 96, 96, 3))
    frames = np.clip(moving_frames(24, px=96) + noise, 0, 255).astype(np.uint8)
    cut(folder / "cut.mp4", write(folder / "whole.mp4", frames), 0.6)
    cut(folder / "cut.mkv", write(folder / "whole.mkv", frames), 0.6)
    encrypted(folder / "encrypted.mp4", frames)
    damaged(folder / "damaged.mp4", frames)
    write(folder / "one-frame.mp4", frames[:1])
    write(folder / "4k.mp4", frames[:8].repeat(40, axis=2)[:, :, :3840].repeat(23, axis=1)[:, :2160])
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video")
    rows += [f"{name},3,train" for name in (*FAILING, *TRAINED)]
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder / "manifest.csv"


def test_every_row_ends_once_with_its_reason(tmp_path: Path) -> None:
    manifest, run = mixed_set(tmp_path), tmp_path / "run"
    rows = [video.video_id for video in read_manifest(manifest) if video.split == "train"]
    process = subprocess.Popen(
        command(manifest, BASE, run, f"--schedule.epochs={EPOCHS}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output, _ = process.communicate(timeout=3 * PATIENCE_S)
    assert process.returncode == 0, output
    assert nothing_left(process.pid) == []
    groups, failures = lines(run, "groups"), lines(run, "failures")
    fates = Counter((line["epoch"], line["video_id"]) for line in (*groups, *failures))
    assert fates == Counter({(epoch, name): 1 for epoch in range(EPOCHS) for name in rows})
    reasons = {line["video_id"]: line["reason"] for line in failures}
    assert reasons.keys() == FAILING.keys()
    for name, reason in FAILING.items():
        assert reason in reasons[name]
    trained = {line["video_id"] for line in groups}
    assert trained >= {*TRAINED}
    for name in rows:
        print(f"{name:20} {reasons.get(name, 'trained')}")
