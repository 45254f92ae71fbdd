"""What a run directory keeps, and what a resumed attempt supersedes."""

import resource
from pathlib import Path

import pytest

from monitoring.run_dir import RunDirectory
from runtime.errors import RunDirectoryError


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "run")
    run.create("{}", "hash")
    return run


def updates(run: RunDirectory) -> list[tuple[int, int]]:
    return [(r["attempt"], r["update"]) for r in run.read_lines("metrics")]


def test_a_resumed_attempt_supersedes_what_came_after_its_checkpoint(run: RunDirectory) -> None:
    assert run.start_attempt(0) == 0
    run.append("metrics", *({"attempt": 0, "update": u} for u in range(5)))
    assert run.start_attempt(3) == 1
    assert updates(run) == [(0, 0), (0, 1), (0, 2)]
    run.append("metrics", *({"attempt": 1, "update": u} for u in range(3, 6)))
    assert updates(run) == [(0, 0), (0, 1), (0, 2), (1, 3), (1, 4), (1, 5)]
    run.start_attempt(1)
    assert updates(run) == [(0, 0)]


def test_a_line_cut_short_by_a_crash_is_left_out(run: RunDirectory) -> None:
    run.start_attempt(0)
    run.append("metrics", {"attempt": 0, "update": 0})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"attempt": 0, "upd')
    assert updates(run) == [(0, 0)]


def test_an_attempt_after_a_crash_does_not_glue_its_lines_to_the_broken_one(run: RunDirectory) -> None:
    run.start_attempt(0)
    run.append("metrics", {"attempt": 0, "update": 0})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"attempt": 0, "upd')
    run.start_attempt(1)
    run.append("metrics", {"attempt": 1, "update": 1})
    assert updates(run) == [(0, 0), (1, 1)]


def test_a_second_run_needs_a_folder_of_its_own(run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="--resume"):
        run.create("{}", "hash")
    with pytest.raises(RunDirectoryError, match="holds no run"):
        RunDirectory(tmp_path / "none").state()
    with pytest.raises(RunDirectoryError, match="give another --run_dir"):
        RunDirectory(Path("/proc/run")).create("{}", "")


def test_pruning_keeps_the_newest_and_the_best_and_ignores_unfinished_ones(run: RunDirectory) -> None:
    for version in (5, 10, 15, 20):
        run.checkpoint(version).mkdir()
        (run.checkpoint(version) / "checkpoint.json").write_text("{}")
    run.checkpoint(25).mkdir()  # no index: it was being written when the run died
    assert run.newest_checkpoint() == run.checkpoint(20)
    run.prune_checkpoints(keep_last=2, best_version=5)
    assert sorted(p.name for p in run.checkpoints.iterdir()) == ["v000005", "v000015", "v000020", "v000025"]


def test_values_that_are_no_numbers_are_refused(run: RunDirectory) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        run.append("metrics", {"attempt": 0, "update": 0, "x": float("nan")})


def test_records_that_the_storage_does_not_take_leave_nothing_behind(run: RunDirectory) -> None:
    """A limit on the size of files stands for a full disk: both break a write off in its middle."""
    run.start_attempt(0)
    run.append("metrics", {"attempt": 0, "update": 0})
    before = (run.path / "metrics.jsonl").read_bytes()
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, most))
    try:
        with pytest.raises(
            RunDirectoryError, match=r"metrics\.jsonl cannot be written: File too large.*--resume"
        ):
            run.append("metrics", *({"attempt": 0, "update": u} for u in range(1, 9)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert (run.path / "metrics.jsonl").read_bytes() == before
    run.append("metrics", {"attempt": 0, "update": 1})
    assert updates(run) == [(0, 0), (0, 1)]
