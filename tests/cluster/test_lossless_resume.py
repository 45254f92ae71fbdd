"""A run that is killed and resumed is the run that was not: on-policy, one worker, exact answers."""

import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.faults import kill_session, start, wait_for_updates
from tests.runs import BASE, command, lines, make_set

pytestmark = [pytest.mark.slow, pytest.mark.engine, pytest.mark.timeout(1800)]

UPDATES, CHECKPOINT_EVERY, KILLED_AFTER = 8, 4, 6
SETTINGS = [
    "--schedule.epochs=4",
    "--schedule.updates=10000",
    "--schedule.max_staleness=0",
    f"--checkpoint.every_updates={CHECKPOINT_EVERY}",
    "--rollout.replicas=1",
    "--rollout.exact=true",
    "--learner.ranks=1",
]
OF_THE_CLOCK = ("time", "attempt", "timing/", "sync/", "rollout/prefix_cache", "rollout/waiting")


def finish(call: list[str], log: Path) -> None:
    process = start(call, log)
    try:
        assert process.wait(timeout=600) == 0, log.read_text()
    finally:
        kill_session(process.pid)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A whole run, one that was killed and went on, and one that went on with another number of ranks."""
    folder = tmp_path_factory.mktemp("lossless")
    manifest, log = make_set(folder), folder / "log"
    found = {name: folder / name for name in ("whole", "resumed", "on two ranks")}
    finish(command(manifest, BASE, found["whole"], *SETTINGS), log)
    call = command(manifest, BASE, found["resumed"], *SETTINGS)
    process = start(call, log)
    try:
        wait_for_updates(found["resumed"], process, KILLED_AFTER)
    finally:
        kill_session(process.pid)
    shutil.copytree(found["resumed"], found["on two ranks"])
    finish([*call[:3], "--resume", f"--run_dir={found['resumed']}"], log)
    more = ["--resume", f"--run_dir={found['on two ranks']}", "--learner.ranks=2"]
    finish([*call[:3], *more], log)
    return found


def metrics(run: Path) -> list[dict[str, float]]:
    """Of each update, what does not tell the time."""
    return [
        {name: v for name, v in m.items() if not name.startswith(OF_THE_CLOCK) and not name.endswith("_s")}
        for m in lines(run, "metrics")
    ]


def answers(run: Path) -> dict[tuple[int, str], Any]:
    """Texts, scores and advantages by update and video."""
    return {
        (g["update"], g["video_id"]): (g["clean"], g["perturbed"] and g["perturbed"]["texts"])
        for g in lines(run, "groups")
    }


def test_the_resumed_run_equals_the_whole_one(runs: dict[str, Path]) -> None:
    assert lines(runs["resumed"], "metrics")[CHECKPOINT_EVERY]["attempt"] == 1
    assert answers(runs["resumed"]) == answers(runs["whole"])
    whole, resumed = metrics(runs["whole"]), metrics(runs["resumed"])
    assert len(whole) == len(resumed) == UPDATES
    for expected, found in zip(whole, resumed, strict=True):
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)
    last = [run["version"] for run in lines(runs["whole"], "evaluations")]
    assert [e["version"] for e in lines(runs["resumed"], "evaluations")] == last


def test_another_number_of_ranks_goes_on_from_the_same_weights(runs: dict[str, Path]) -> None:
    """The first update is asked and trained alike, up to the order in which sums are made."""
    first = CHECKPOINT_EVERY
    ours, theirs = answers(runs["on two ranks"]), answers(runs["whole"])
    of_first = [key for key in theirs if key[0] == first]
    assert of_first
    for key in of_first:
        assert ours[key][0]["texts"] == theirs[key][0]["texts"]
        assert ours[key][0]["advantages"] == theirs[key][0]["advantages"]
    found, expected = metrics(runs["on two ranks"])[first], metrics(runs["whole"])[first]
    learned = [n for n in expected if n.startswith(("learner/loss", "learner/grad", "policy/"))]
    assert learned
    for name in learned:
        assert math.isclose(found[name], expected[name], rel_tol=1e-3, abs_tol=1e-5), name
    assert len(metrics(runs["on two ranks"])) == UPDATES
