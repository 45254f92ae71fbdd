"""A training run on a manifest in which good clips lie among broken, encrypted, damaged, very short and very
large files: every row ends once, with its reason."""

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from data.manifest import read_manifest
from tests.awkward_files import FILES, X264
from tests.numbered_pictures import encode
from tests.runs import BASE, PATIENCE_S, ROOT, command, lines, nothing_left

pytestmark = [pytest.mark.slow, pytest.mark.engine, pytest.mark.timeout(1200)]

EPOCHS = 2
FAILING = {
    "cenc.mp4": "it is encrypted",
    "cut.mkv": "it ends at",
    "cut.mp4": "of its 40 frames",
    "empty.mp4": "the file is empty",
    "text.mp4": "not a readable video",
    "without-index.mp4": "cut short",
}
TRAINED = ("4k.mp4", "damaged.mp4", "one-frame.mp4")


def mixed_set(folder: Path) -> Path:
    """Nine clips of the demo to train on and four to test, and the files above."""
    clips = read_manifest(ROOT / "demo" / "built" / "manifest.csv")
    train = [video for video in clips if video.split == "train"][:9]
    test = [video for video in clips if video.split == "test"][:4]
    rows = ["path,mos,split"]
    for video in (*train, *test):
        shutil.copy(video.path, folder)
        rows.append(f"{Path(video.path).name},{video.mos},{video.split}")
    for file in FILES:
        if file.name in (*FAILING, *TRAINED):
            file.make(folder / file.name)
    encode(folder / "one-frame.mp4", X264, 1)
    encode(folder / "4k.mp4", X264, 8, (2160, 3840))
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
