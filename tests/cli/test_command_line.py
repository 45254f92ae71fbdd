"""What a user gets wrong is answered within seconds, before any engine starts."""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 5.0


def launch(*arguments: str, cwd: Path = ROOT) -> tuple[int, str, float]:
    """(exit code, output, processor seconds) of a command; those do not depend on what else is running."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"COLUMNS": "200", "PYTHONPATH": str(ROOT)},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr), seconds


@pytest.fixture
def manifest(videos: list[Path], tmp_path: Path) -> Path:
    lines = [f"{path},{1 + i % 5},{'train' if i < 4 else 'test'}" for i, path in enumerate(videos)]
    path = videos[0].parent / f"{tmp_path.name}.csv"
    path.write_text("\n".join(["path,mos,split", *lines]) + "\n")
    return path


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (None, ["--data.manifest=none.csv"], "none.csv: no such manifest"),
        (("video-1.mp4", "gone.mp4"), [], "row 3, path: "),
        ((",2,", ",7,"), [], "row 3, mos: 7 is outside 1 to 5"),
        (("mos", "moss"), [], "column 'moss' is unknown; did you mean 'mos'"),
        (None, ["--learner.larning_rate=1"], "unknown option '--learner.larning_rate'; did you mean"),
        (None, ["--learner.lr=quick"], "learner.lr: "),
        (
            None,
            ["--data.train_split=trian"],
            "no row has split 'trian' (data.train_split); it has train, test",
        ),
        (None, ["--evaluation.splits=[val]"], "no row has split 'val' (evaluation.splits)"),
        (None, ["--model.path=./nowhere"], "nowhere holds no config.json"),
        (None, ["--model.path=nowhere"], "neither a folder here nor a hub name"),
        (None, [f"--run_dir={ROOT / 'README.md' / 'run'}"], "cannot write to"),
    ],
)
def test_bad_input_is_named_with_its_fix(
    manifest: Path, tmp_path: Path, change: tuple[str, str] | None, arguments: list[str], message: str
) -> None:
    if change is not None:
        manifest.write_text(manifest.read_text().replace(*change, 1))
    code, output, seconds = launch(
        "train", f"--data.manifest={manifest}", f"--run_dir={tmp_path / 'run'}", *arguments
    )
    assert code == 2
    assert message in output
    assert "Traceback" not in output
    assert seconds < SECONDS
    assert not (tmp_path / "run").exists()


def test_more_gpus_than_there_are(manifest: Path, tmp_path: Path) -> None:
    """Only a started Ray knows what there is; no engine starts all the same."""
    code, output, _ = launch(
        "train",
        f"--data.manifest={manifest}",
        f"--run_dir={tmp_path / 'run'}",
        "--rollout.gpus_per_replica=4",
        "--learner.gpus_per_rank=1",
        "--learner.ranks=8",
    )
    assert code == 2
    assert "needs 8 GPUs for the learner (learner.ranks) and 2 x 4 for rollout" in output
    assert "16 in all; the cluster has 0" in output


def test_resume_needs_a_run(tmp_path: Path) -> None:
    assert "--resume needs --run_dir=FOLDER and no preset" in launch("train", "--resume")[1]
    code, output, _ = launch("train", "--resume", f"--run_dir={tmp_path}")
    assert code == 2
    assert "holds no run to resume" in output


def test_help_and_settings_explain() -> None:
    code, output, seconds = launch("--help")
    assert code == 0
    assert seconds < SECONDS
    for command in ("train", "make-demo-set", "make-base", "settings"):
        assert command in output
    code, output, _ = launch("settings")
    assert code == 0
    assert "schedule.max_staleness" in output
    assert "strictly on-policy" in output


def test_without_the_environment_it_says_how_to_make_it() -> None:
    """-S leaves out all installed packages, as with the system's Python."""
    command = [sys.executable, "-S", str(ROOT / "launch.py"), "score", "a.mp4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: \S+ has no package 'typer': run `make setup` in .*\n", done.stderr)


def test_a_missing_module_of_the_project_is_a_fault_and_no_missing_package() -> None:
    from launch import no_environment

    with pytest.raises(ModuleNotFoundError):
        no_environment(ModuleNotFoundError("no", name="data.gone"))
    assert "has no package 'ray'" in no_environment(ModuleNotFoundError("no", name="ray.data"))
