"""The study without its training: arms, what is done with half-finished runs, and the report."""

import json
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.study import results
from benchmarks.study.arms import ARMS, KL_ARMS, PRESET, Run, ladder_table, plan
from benchmarks.study.picture import draw, over_updates
from benchmarks.study.report import arm_table, mean_and_interval, run_table, write_report
from benchmarks.study.runs import EXPECTED_SUPERVISED_S, State, Study, StudyError, expected_s
from benchmarks.study.supervised import own_words
from cluster.config import RunConfig, load_config
from data.records import Video
from data.sampler import CohortSampler
from demo.base_model.clips import Clips
from rewards.registry import BUILT_IN, weight_of

LADDERS = Path("ladders.csv")


def config_of(arm: str) -> RunConfig:
    return load_config(PRESET, Run(ARMS[arm], 1).overrides(60, LADDERS))


def weights(arm: str) -> tuple[float, float, float, float]:
    settings = config_of(arm).rewards
    found = {reward.name: weight_of(reward, settings) for reward in BUILT_IN}
    return found["format"], found["regression"], found["ranking"], found["temporal"]


def test_each_arm_adds_what_its_name_says() -> None:
    assert weights("format") == (1, 0, 0, 0)
    assert weights("format+regression") == (1, 1, 0, 0)
    assert weights("format+ranking") == (1, 0, 1, 0)
    assert weights("format+regression+ranking") == (1, 1, 1, 0)
    assert weights("all") == weights("ladders") == (1, 1, 1, 1)
    assert not config_of("format").temporal, "no perturbed copies are sampled for nothing"


def test_the_kl_arms_are_the_coefficients_that_they_say() -> None:
    for coefficient, arm in KL_ARMS.items():
        assert config_of(arm.name).learner.kl_coefficient == coefficient


@pytest.mark.parametrize("name", [name for name, arm in ARMS.items() if not arm.supervised])
def test_every_arm_is_a_valid_configuration_of_the_same_length(name: str) -> None:
    config = config_of(name)
    assert (config.seed, config.schedule.updates) == (1, 60)
    assert config.evaluation.splits == ["test", "ood"]


def test_a_plan_goes_seed_by_seed() -> None:
    assert [r.name for r in plan(["all", "format"], [0, 2])] == [
        "format-seed0", "all-seed0", "format-seed2", "all-seed2",
    ]  # fmt: skip
    assert len(plan(None, [0, 1, 2])) == 3 * len(ARMS)
    with pytest.raises(ValueError, match=r"unknown arms none: there are format, format\+regression"):
        plan(["none"], [0])


def clip(name: str, split: str, source: str, kind: str, strength: float) -> Video:
    return Video(name, f"/clips/{name}.mp4", 2.5, split, "demo", source, distortion=kind, strength=strength)


def test_ladders_hold_an_order_and_no_score() -> None:
    clips = [
        clip("a", "train", "brick", "blur", 0.0),
        clip("b", "train", "brick", "blur", 0.75),
        clip("c", "train", "brick", "noise", 0.5),
        clip("d", "test", "grass", "blur", 0.5),
    ]
    table = ladder_table(clips, Path("/clips")).set_index("video_id")
    assert list(table.index) == ["a", "b", "d"], "c is alone on its ladder"
    assert table["label_set"].tolist() == ["brick/blur", "brick/blur", "demo"]
    assert table["rank_only"].tolist() == [True, True, False]
    assert table["mos"].tolist() == [5.0, 2.0, 2.5]
    assert table["path"].tolist() == ["a.mp4", "b.mp4", "d.mp4"]


def test_the_demo_set_has_ladders_enough(tmp_path: Path) -> None:
    from data.manifest import read_manifest
    from demo.clips.build import LABEL_TABLE, MANIFEST_COLUMNS

    demo = tmp_path / "manifest.csv"
    columns = [line.split(",") for line in LABEL_TABLE.read_text().splitlines()]
    kept = [columns[0].index(name) for name in MANIFEST_COLUMNS]
    demo.write_text("".join(",".join(cells[i] for i in kept) + "\n" for cells in columns))
    ladder_table(read_manifest(demo, check_files=False), tmp_path).to_csv(tmp_path / LADDERS, index=False)
    train = [v for v in read_manifest(tmp_path / LADDERS, check_files=False) if v.split == "train"]
    assert len(train) > 400
    assert all(v.rank_only for v in train)
    sampler = CohortSampler(train, config_of("ladders").schedule.videos_per_cohort, 0, 4, temporal=False)
    for index in range(sampler.cohorts_per_epoch):
        sets = Counter(member.video.label_set for member in sampler.cohort(index).members)
        assert min(sets.values()) >= 6, "whole ladders meet"
        assert sum(sets.values()) >= 12


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path / "runs", tmp_path / "results", 60, LADDERS)


RUN = Run(ARMS["all"], 0)


def leave(study: Study, *files: str) -> None:
    study.folder(RUN).mkdir(parents=True, exist_ok=True)
    command = shlex.join(study.command(RUN))
    study.folder(RUN).with_name(f"{RUN.name}.command").write_text(command + "\n")
    for name in files:
        (study.folder(RUN) / name).write_text("{}")


def test_a_run_is_begun_gone_on_with_collected_or_skipped(study: Study) -> None:
    assert study.state(RUN) is State.START
    leave(study)
    assert study.state(RUN) is State.START, "it did not come as far as a run directory"
    leave(study, "run.json")
    assert study.state(RUN) is State.RESUME
    leave(study, "summary.json")
    assert study.state(RUN) is State.COLLECT
    results.write(result_of(RUN) | {"command": study.command(RUN)}, study.result(RUN))
    assert study.state(RUN) is State.FINISHED
    assert study.command(RUN, resume=True)[-2:] == ["--resume", f"--run_dir={study.folder(RUN)}"]


def test_what_other_settings_left_is_not_mixed_in(study: Study) -> None:
    leave(study, "run.json")
    longer = Study(study.out, study.results, 160, LADDERS)
    with pytest.raises(StudyError, match=r"all-seed0 was made with other settings \(.*updates=60.*remove it"):
        longer.state(RUN)
    results.write(result_of(RUN) | {"command": ["other"]}, study.result(RUN))
    with pytest.raises(StudyError, match=r"all-seed0\.json was made with other settings"):
        study.state(RUN)


# A run that does one update and then waits to be stopped; resumed, it ends at once.
FAKE_RUN = """
import pathlib, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
folder = pathlib.Path(sys.argv[1])
folder.mkdir(exist_ok=True)
(folder / "run.json").write_text('{"attempts": []}')
if sys.argv[2] == "fail":
    sys.exit("no room")
if sys.argv[2] == "begin":
    (folder / "metrics.jsonl").write_text("{}\\n")
    signal.sigwait({signal.SIGTERM})
    (folder / "stopped").touch()
else:
    (folder / "resumed").touch()
    (folder / "summary.json").write_text("{}")
"""


class FakeStudy(Study):
    def command(self, run: Run, resume: bool = False) -> list[str]:
        begin = "fail" if run.seed else "begin"
        return ["python", "-c", FAKE_RUN, str(self.folder(run)), "resume" if resume else begin]


def test_an_interrupted_run_ends_itself_and_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.study.runs.POLL_S", 0.1)
    monkeypatch.setattr(
        results, "collect", lambda run, folder, command: result_of(run) | {"command": command}
    )
    study = FakeStudy(tmp_path / "runs", tmp_path / "results", 60, LADDERS)

    def ctrl_c_after_the_first(done: int) -> None:
        if done:
            raise KeyboardInterrupt

    with study.alone(), pytest.raises(KeyboardInterrupt):
        study.carry_out(RUN, ctrl_c_after_the_first)
    assert (study.folder(RUN) / "stopped").exists(), "it was asked to stop, and waited for"
    assert study.state(RUN) is State.RESUME
    study.carry_out(RUN, lambda done: None)
    assert (study.folder(RUN) / "resumed").exists()
    assert study.state(RUN) is State.FINISHED
    with pytest.raises(StudyError, match=r"ended with code 1; the end of .*all-seed1.log:\nno room"):
        study.carry_out(Run(ARMS["all"], 1), lambda done: None)


def test_two_studies_do_not_work_in_one_folder(study: Study) -> None:
    with study.alone(), pytest.raises(StudyError, match="another study is at work"), study.alone():
        pass
    with study.alone():
        pass


def test_the_supervised_arm_is_a_program_of_its_own(study: Study) -> None:
    command = study.command(Run(ARMS["supervised"], 2))
    assert command[:3] == ["python", "-m", "benchmarks.study.supervised"]
    assert "--seed=2" in command
    assert "--scores-only" not in command
    assert "--scores-only" in study.command(Run(ARMS["supervised-scores"], 2))


def test_supervision_by_scores_alone_keeps_the_models_own_words() -> None:
    good, other, broken = (
        "<think>A.</think><answer>1.00</answer>",
        "<think>B.</think><answer>2.00</answer>",
        "<think>C.",
    )
    clips = Clips(np.zeros((2, 1)), ["blur", "noise"], np.array([3.25, 4.5]), ["a", "b"], np.ones(2, bool))
    write, rng = own_words(clips, [[good, broken, other], [broken, good]]), np.random.default_rng(0)
    assert {write(0, rng) for _ in range(50)} == {
        "<think>A.</think><answer>3.25</answer>",
        "<think>B.</think><answer>3.25</answer>",
    }
    assert write(1, rng) == "<think>A.</think><answer>4.50</answer>"


def test_what_is_to_come_is_estimated_from_what_was() -> None:
    known = [{"arm": "all", "seconds": 100.0}, {"arm": "format", "seconds": 50.0}]
    assert expected_s(RUN, 60, known) == 100
    assert expected_s(Run(ARMS["ladders"], 0), 60, known) == 75
    assert expected_s(Run(ARMS["supervised"], 0), 60, known) == EXPECTED_SUPERVISED_S
    assert expected_s(RUN, 60, []) < expected_s(RUN, 160, [])


def test_curves_are_condensed_to_means_of_stretches() -> None:
    metrics = [{"update": u, "reward/total": float(u)} for u in range(10)]
    curves = results.condensed(metrics, points=5)
    assert curves["update"] == [2, 4, 6, 8, 10]
    assert curves["reward/total"] == [0.5, 2.5, 4.5, 6.5, 8.5]
    assert curves["reward/ranking"] == [None] * 5
    assert results.condensed(metrics[:2])["update"] == [1, 2]
    assert results.condensed([])["update"] == []


def result_of(run: Run, srcc: float = 0.6) -> dict[str, Any]:
    scores = {"srcc": srcc, "srcc_low": srcc - 0.1, "srcc_high": srcc + 0.1, "mean_srcc": srcc + 0.01}
    traces = {"accuracy": 0.9, "macro_f1": 0.8, "strength_srcc": None}
    gain = {"srcc": {"gain": 0.4, "low": 0.3, "high": 0.5}}
    both = ("test", "ood")
    return {
        "arm": run.arm.name,
        "title": run.arm.title,
        "seed": run.seed,
        "command": ["python"],
        "seconds": 90.0,
        "updates": 60,
        "base": {split: scores | {"srcc": 0.2} for split in both},
        "trained": dict.fromkeys(both, scores),
        "gain": dict.fromkeys(both, gain),
        "evaluations": [{"version": v, "split": s} | scores for v in (0, 60) for s in both],
        "attribution": [{"version": v, "split": s} | traces for v in (0, 60) for s in both],
        "curves": {"update": [30, 60], "reward/total": [1.0, 1.5], "policy/kl_to_base": [0.01, 0.02]},
    }


def test_means_and_intervals_over_seeds() -> None:
    assert (
        mean_and_interval([0.5, 0.6, 0.7]) == "0.600 (0.35 to 0.85)"
    )  # t = 4.303 for two degrees of freedom
    assert mean_and_interval([0.5, None]) == "0.500"
    assert mean_and_interval([None]) == "–"


def test_the_report_has_every_arm_that_has_results(tmp_path: Path) -> None:
    runs = [Run(ARMS["all"], 0), Run(ARMS["all"], 1), Run(ARMS["kl-0"], 0)]
    for run, srcc in zip(runs, (0.5, 0.7, 0.3), strict=True):
        results.write(result_of(run, srcc), tmp_path / f"{run.name}.json")
    (tmp_path / "other.json").write_text(json.dumps({}))
    found = results.read_all(tmp_path)
    assert [r["arm"] for r in found] == ["all", "all", "kl-0"]
    table = arm_table(found, "test", {f"{c:g}": arm for c, arm in KL_ARMS.items()})
    base, *arms = table.splitlines()[2:]
    assert base.startswith("| base |  | 0.200 |")
    assert [line.split(" | ")[0] for line in arms] == ["| 0", "| 0.04"]
    assert "| 2 | 0.600 (-0.67 to 1.87) |" in arms[1]
    assert len(run_table(found).splitlines()) == 2 + 3
    assert "+0.400 (+0.30 to +0.50)" in run_table(found)
    report = write_report(found, tmp_path).read_text()
    assert table in report
    assert over_updates(found[:2], "srcc") == ([0, 60], [0.6, 0.6])
    assert over_updates(found[:2], "strength_srcc") == ([], [])
    assert draw(found, tmp_path / "picture.png").stat().st_size > 10_000
