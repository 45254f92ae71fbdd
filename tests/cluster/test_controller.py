"""The control loop's invariants, with fakes in place of engines, learner and decoder. Rewards are real."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.journal import Journal
from cluster.preflight import Job
from cluster.training_batch import TrainingDiverged
from data.frames import FrameInfo
from data.records import Group, SamplingRequest, VideoRef
from learner.checkpoint import CheckpointError
from learner.group import LearnerFailed
from learner.inputs import PromptMismatch
from monitoring.run_dir import RunDirectory
from rollout.errors import FleetExhausted
from tests.fakes import (
    DAMAGED,
    N_VIDEOS,
    UNANIMOUS,
    UNREADABLE,
    UNSAMPLEABLE,
    FakeWorkers,
    controller_over,
    job,
    run_job,
)


def fates(run: RunDirectory) -> Counter[tuple[int, str, str]]:
    """How often each (epoch, video) ended, and how."""
    groups = [(r["epoch"], r["video_id"], r["status"]) for r in run.read_lines("groups")]
    failed = [(r["epoch"], r["video_id"], f"failed in {r['stage']}") for r in run.read_lines("failures")]
    return Counter(groups + failed)


@pytest.mark.parametrize("staleness", [0, 1, 3])
@pytest.mark.parametrize("cohorts_per_update", [1, 2])
def test_every_row_of_an_epoch_ends_exactly_once(
    tmp_path: Path, staleness: int, cohorts_per_update: int
) -> None:
    run, fakes, summary = run_job(
        job(f"--schedule.max_staleness={staleness}", f"--schedule.cohorts_per_update={cohorts_per_update}"),
        tmp_path / "run",
    )
    ends = fates(run)
    assert set(ends.values()) == {1}
    assert sorted((e, v) for e, v, _ in ends) == [(e, f"v{i:02d}") for e in range(2) for i in range(N_VIDEOS)]
    odd = {v: how for _, v, how in ends if how != "trained"}
    assert odd == {
        UNREADABLE: "failed in decode",
        UNSAMPLEABLE: "failed in rollout",
        UNANIMOUS: "skipped",
    }
    assert summary["finished"]
    assert fakes.closed
    assert (tmp_path / "run" / "final").is_dir()
    assert (tmp_path / "run" / "final" / "README.md").is_file()


def test_the_run_says_of_which_kind_a_refusal_is_and_which_videos_have_marks(tmp_path: Path) -> None:
    run, _, _ = run_job(job(), tmp_path / "run")
    kinds = {failure["video_id"]: failure["kind"] for failure in run.read_lines("failures")}
    assert kinds == {UNREADABLE: "truncated", UNSAMPLEABLE: ""}
    marks = {"damaged_frames": [3]}
    assert {g["video_id"]: g["marks"] for g in run.read_lines("groups") if g["marks"]} == {DAMAGED: marks}
    marked = list(run.read_lines("marks"))
    assert [(m["epoch"], m["video_id"], m["marks"]) for m in marked] == [(e, DAMAGED, marks) for e in (0, 1)]
    assert Path(marked[0]["path"]).stem == DAMAGED


@pytest.mark.parametrize("staleness", [0, 1, 3])
def test_no_token_is_older_than_allowed(tmp_path: Path, staleness: int) -> None:
    run, _, _ = run_job(job(f"--schedule.max_staleness={staleness}"), tmp_path / "run", delays=staleness)
    ages = [r["update"] - v for r in run.read_lines("groups") for vs in r["clean"]["versions"] for v in vs]
    assert min(ages) >= 0
    assert max(ages) <= staleness
    assert staleness == 0 or max(ages) > 0, "the bound is made use of"


def test_the_same_seed_asks_for_the_same_samples_whatever_the_timing(tmp_path: Path) -> None:
    def asked(name: str, *overrides: str, delays: int) -> set[SamplingRequest]:
        _, fakes, _ = run_job(job(*overrides), tmp_path / name, delays)
        return {r for r in fakes.asked if r.temperature > 0 and r.ref.video_id.startswith("v")}

    first = asked("a", delays=1)
    assert asked("b", delays=2) == first
    assert asked("c", "--rollout.replicas=1", delays=3) == first
    assert asked("d", "--seed=1", delays=1) != first
    seeds = [s for r in first for s in r.seeds]
    assert len(seeds) == len(set(seeds))


def test_a_run_that_died_goes_on_from_its_checkpoint_and_loses_no_row(tmp_path: Path) -> None:
    whole, _, _ = run_job(job(), tmp_path / "whole")
    with pytest.raises(RuntimeError, match="a rank died"):
        run_job(job(), tmp_path / "run", fail_at_update=5)
    run, fakes, summary = run_job(job(), tmp_path / "run", delays=9, resume=True)
    assert [version for version, _ in fakes.trained] == [3, 4, 5, 6, 7, 8, 9]
    assert fates(run) == fates(whole)
    assert summary["finished"]
    assert [r["update"] for r in run.read_lines("metrics")] == list(range(10))


@pytest.mark.parametrize("staleness", [0, 2])
def test_a_learner_that_dies_is_started_anew_from_the_last_checkpoint(tmp_path: Path, staleness: int) -> None:
    """Once before the first checkpoint, twice at the same update: the run ends as if undisturbed."""
    the_job = job(f"--schedule.max_staleness={staleness}")
    whole, _, _ = run_job(the_job, tmp_path / "whole")
    run, fakes, summary = run_job(the_job, tmp_path / "run", learner_dies_at=[1, 5, 5])
    assert summary["finished"]
    assert fakes.learner_starts == 4
    assert [v for v, _ in fakes.trained] == [0, 0, 1, 2, 3, 4, 3, 4, 3, 4, 5, 6, 7, 8, 9]
    assert fates(run) == fates(whole)
    assert [r["update"] for r in run.read_lines("metrics")] == list(range(10))
    assert [(e["version"], e["split"]) for e in run.read_lines("evaluations")] == [
        (v, "test") for v in (0, 4, 8, 10)
    ]
    faults = [json.loads(line) for line in (run.path / "faults.jsonl").read_text().splitlines()]
    assert [f["actor"] for f in faults] == ["learner"] * 3
    assert "rank 1 died in update 1" in faults[0]["reason"]
    ages = [r["update"] - v for r in run.read_lines("groups") for vs in r["clean"]["versions"] for v in vs]
    assert 0 <= min(ages) <= max(ages) <= staleness


@pytest.mark.parametrize("background", ["true", "false"])
def test_updates_continue_while_a_checkpoint_is_written(tmp_path: Path, background: str) -> None:
    the_job = job(f"--checkpoint.background={background}", "--checkpoint.keep_last=9")
    run, fakes, summary = run_job(the_job, tmp_path / "run")
    assert summary["finished"]
    assert sorted(fakes.saved) == [3, 6, 9, 10]
    assert all(fakes.saved[version]["version"] == version for version in fakes.saved if background == "true")
    assert sorted(p.parent.name for p in run.checkpoints.glob("v*/checkpoint.json")) == [
        f"v{version:06d}" for version in (3, 6, 9, 10)
    ]
    overlapped = fakes.updates_while_writing > 0
    assert overlapped == (background == "true")
    metrics = list(run.read_lines("metrics"))
    assert "checkpoint/pause_s" not in metrics[2]
    assert metrics[-1]["checkpoint/pause_s"] > 0


def test_a_learner_that_dies_while_a_checkpoint_is_written_starts_from_the_one_before(tmp_path: Path) -> None:
    """The update behind version 6 dies at once, while that checkpoint is being written."""
    whole, _, _ = run_job(job(), tmp_path / "whole")
    run, fakes, summary = run_job(job(), tmp_path / "run", learner_dies_at=[6], slow_writes={6})
    assert summary["finished"]
    assert [v for v, _ in fakes.trained] == [0, 1, 2, 3, 4, 5, 3, 4, 5, 6, 7, 8, 9]
    assert fates(run) == fates(whole)


def test_a_checkpoint_that_cannot_be_written_ends_the_run_and_the_one_before_stays(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No space left"):
        run_job(job(), tmp_path / "run", fail_to_write_at=6)
    assert RunDirectory(tmp_path / "run").newest_checkpoint() == tmp_path / "run" / "checkpoints" / "v000003"
    _, fakes, summary = run_job(job(), tmp_path / "run", resume=True)
    assert summary["finished"]
    assert fakes.trained[0][0] == 3


def test_a_fault_is_one_line_to_watch_and_whole_on_record(tmp_path: Path) -> None:
    """Ray explains the death of an actor in many lines."""
    run = RunDirectory(tmp_path / "run")
    run.create("{}", "")
    the_job = job()
    fakes = FakeWorkers(the_job.config, random.Random(0), learner_dies_at=[1])
    controller = controller_over(fakes, the_job, run)
    asyncio.run(asyncio.wait_for(controller.run(), 60))
    (shown,) = [event["reason"] for event in controller.journal.events(0)[1] if event["kind"] == "fault"]
    assert shown == "rank 1 died in update 1; its ranks are restarted from the last checkpoint"
    recorded = json.loads((run.path / "faults.jsonl").read_text())
    assert recorded["reason"] == f"{shown}\n\tclass_name: LearnerRank"


def test_a_learner_that_keeps_dying_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(LearnerFailed, match="rank 1 died in update 4"):
        run_job(job("--learner.max_restarts=2"), tmp_path / "run", learner_dies_at=[4] * 3)


def test_a_failure_that_must_repeat_ends_the_run_at_once(tmp_path: Path) -> None:
    """After a restart the next attempt would meet the same prompt: no restart is used up for it."""
    run = RunDirectory(tmp_path / "run")
    run.create("{}", "")
    the_job = job()
    fakes = FakeWorkers(the_job.config, random.Random(0), mismatch_at=1)
    controller = controller_over(fakes, the_job, run)
    with pytest.raises(PromptMismatch, match="296 tokens, the learner's 152"):
        asyncio.run(asyncio.wait_for(controller.run(), 60))
    assert fakes.learner_starts == 1
    assert [version for version, _ in fakes.trained] == [0]
    assert fakes.closed


def test_an_update_that_is_not_finite_is_skipped_and_counted(tmp_path: Path) -> None:
    run, fakes, summary = run_job(job(), tmp_path / "run", not_finite={2, 3, 6})
    assert summary["finished"]
    assert [v for v, _ in fakes.trained] == [0, 1, 4, 5, 7, 8, 9]
    skipped = {r["update"] for r in run.read_lines("groups") if r["reason"] == "loss or gradient not finite"}
    assert skipped == {2, 3, 6}
    assert all(r["status"] == "skipped" for r in run.read_lines("groups") if r["update"] in skipped)
    assert [m["data/trained_videos"] == 0 for m in run.read_lines("metrics")] == [
        update in skipped for update in range(10)
    ]


def test_too_many_updates_that_are_not_finite_end_the_run_with_a_diagnosis(tmp_path: Path) -> None:
    limit = "--learner.max_skipped_updates=2"
    with pytest.raises(
        TrainingDiverged, match="2 updates in a row, up to update 4.*learner/loss nan.*learner.lr"
    ):
        run_job(job(limit), tmp_path / "run", not_finite={1, 3, 4})


def test_a_run_told_to_stop_saves_and_can_go_on(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create("{}", "")
    the_job = job("--checkpoint.every_updates=0")
    fakes = FakeWorkers(the_job.config, random.Random(0))

    async def run_and_stop() -> dict[str, Any]:
        controller = controller_over(fakes, the_job, run)
        running = asyncio.create_task(controller.run())
        while len(fakes.trained) < 2:
            await asyncio.sleep(0.001)
        controller.stop()
        return await asyncio.wait_for(running, 20)

    assert asyncio.run(run_and_stop())["finished"] is False
    (version,) = fakes.saved
    assert version == fakes.trained[-1][0] + 1
    _, resumed, summary = run_job(the_job, run.path, resume=True)
    assert resumed.trained[0][0] == version
    assert summary["finished"]


def test_an_update_without_anything_to_learn_from_is_counted(tmp_path: Path) -> None:
    """All completions of all videos agree: nothing is trained, and the run goes on."""
    the_job = job("--schedule.completions_per_video=1", "--schedule.updates=2")
    run, fakes, summary = run_job(the_job, tmp_path / "run")
    assert summary["finished"]
    assert fakes.trained == []
    assert fakes.version == 2
    assert {r["status"] for r in run.read_lines("groups")} == {"skipped"}


def test_evaluations_are_recorded_with_their_predictions(tmp_path: Path) -> None:
    run, _, _ = run_job(job(), tmp_path / "run")
    found = [(e["version"], e["split"]) for e in run.read_lines("evaluations")]
    assert found == [(v, "test") for v in (0, 4, 8, 10)]
    predictions = run.read_predictions(10, "test")
    assert len(predictions) == 6
    assert all(len(p["samples"]) == 2 and p["greedy"] is not None for p in predictions)


def slow_evaluation(*overrides: str) -> Job:
    """Three of six videos are evaluated at versions 4 and 8, slower than updates are made."""
    return job("--evaluation.videos=3", *overrides)


@pytest.mark.parametrize("staleness", [0, 2])
@pytest.mark.parametrize("beside", ["true", "false"])
def test_an_evaluation_belongs_to_its_version(tmp_path: Path, staleness: int, beside: str) -> None:
    """Beside training its answers come when the learner has made one more update; no other can follow."""
    the_job = slow_evaluation(
        f"--schedule.max_staleness={staleness}", f"--evaluation.beside_training={beside}"
    )
    overtaken = {4, 8} if beside == "true" else set()
    run, fakes, summary = run_job(the_job, tmp_path / "run", overtaken=overtaken)
    assert summary["finished"]
    subset = run.state()["evaluated_videos"]["test"]
    assert len(subset) == 3
    asked: dict[int, list[str]] = {}
    for video, version, _ in fakes.evaluated:
        asked.setdefault(version, []).append(video)
    everything = [f"t{i}" for i in range(6)]
    assert {version: sorted(videos) for version, videos in asked.items()} == {
        0: everything,
        4: sorted(subset),
        8: sorted(subset),
        10: everything,
    }
    ahead = {updates - version for _, version, updates in fakes.evaluated}
    assert ahead == ({0, 1} if overtaken else {0})
    records = list(run.read_lines("evaluations"))
    assert [(e["version"], e["videos"], e["of_videos"]) for e in records] == [
        (0, 6, 6), (4, 3, 6), (8, 3, 6), (10, 6, 6)
    ]  # fmt: skip
    for record in records:
        predictions = run.read_predictions(record["version"], "test")
        assert [p["video_id"] for p in predictions] == (subset if record["videos"] == 3 else everything)
        assert not any(p["failure"] for p in predictions)
    ages = [r["update"] - v for r in run.read_lines("groups") for vs in r["clean"]["versions"] for v in vs]
    assert 0 <= min(ages) <= max(ages) <= staleness
    assert set(fates(run).values()) == {1}
    assert all(m["timing/evaluation_s"] >= 0 for m in run.read_lines("metrics"))


def test_a_video_that_was_answered_under_another_version_gets_no_score(tmp_path: Path) -> None:
    """As of a worker that joins with weights that the others do not hold yet."""
    run = RunDirectory(tmp_path / "run")
    run.create("{}", "")
    the_job = slow_evaluation("--evaluation.during=[test]", "--schedule.updates=5")

    class Ahead(FakeWorkers):
        def _group(self, request: SamplingRequest, version: int) -> Group:
            strange = version == 4 and request.temperature == 0 and request.ref.video_id == subset[0]
            return super()._group(request, version + 1 if strange else version)

    fakes = Ahead(the_job.config, random.Random(0))
    controller = controller_over(fakes, the_job, run)
    subset = run.state()["evaluated_videos"]["test"]
    assert asyncio.run(asyncio.wait_for(controller.run(), 60))["finished"]
    failures = {p["video_id"]: p["failure"] for p in run.read_predictions(4, "test")}
    assert failures[subset[0]] == "answered under version 5 in an evaluation of version 4"
    assert [failures[video] for video in subset[1:]] == ["", ""]


def test_no_worker_joins_while_a_version_is_evaluated_beside_training(tmp_path: Path) -> None:
    seen: set[tuple[bool, bool]] = set()

    class Watched(FakeWorkers):
        async def update(self, samples: Sequence[Any]) -> dict[str, float]:
            seen.add((self.updates in (4, 8), self.may_join.is_set()))
            return await super().update(samples)

    run = RunDirectory(tmp_path / "run")
    run.create("{}", "")
    fakes = Watched(slow_evaluation().config, random.Random(0), overtaken={4, 8})
    fakes.may_join.set()
    asyncio.run(asyncio.wait_for(controller_over(fakes, slow_evaluation(), run).run(), 60))
    assert seen == {(True, False), (False, True)}
    assert fakes.may_join.is_set()


def test_a_stop_in_an_evaluation_records_nothing_of_it_and_a_resumed_run_makes_up_for_it(
    tmp_path: Path,
) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create("{}", "")
    the_job = slow_evaluation()
    fakes = FakeWorkers(the_job.config, random.Random(0), overtaken={4})

    async def run_and_stop() -> dict[str, Any]:
        controller = controller_over(fakes, the_job, run)
        running = asyncio.create_task(controller.run())
        while fakes.version < 4:
            await asyncio.sleep(0.001)
        controller.stop()
        return await asyncio.wait_for(running, 20)

    assert asyncio.run(run_and_stop())["finished"] is False
    stopped_at = max(fakes.saved)
    assert stopped_at in (4, 5)
    recorded = [e["version"] for e in run.read_lines("evaluations")]
    assert recorded == ([0] if stopped_at == 4 else [0, 4])
    subset = run.state()["evaluated_videos"]
    _, resumed, _ = run_job(job("--evaluation.videos=2"), run.path, resume=True)
    assert run.state()["evaluated_videos"] == subset, "chosen once for the whole run"
    assert [(e["version"], e["videos"]) for e in run.read_lines("evaluations")] == [
        (0, 6), (4, 3), (8, 3), (10, 6)
    ]  # fmt: skip
    assert {version for _, version, _ in resumed.evaluated} == ({4, 8, 10} if stopped_at == 4 else {8, 10})


def test_a_learner_that_dies_beside_an_evaluation_leaves_none_by_halves(tmp_path: Path) -> None:
    """It dies in the update after version 4, is restarted from version 3, and makes version 4 again."""
    run, fakes, summary = run_job(slow_evaluation(), tmp_path / "run", learner_dies_at=[4], overtaken={4})
    assert summary["finished"]
    assert [(e["version"], e["videos"]) for e in run.read_lines("evaluations")] == [
        (0, 6), (4, 3), (8, 3), (10, 6)
    ]  # fmt: skip
    assert [v for v, _ in fakes.trained] == [0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9]


def test_an_evaluation_that_fails_ends_the_run(tmp_path: Path) -> None:
    class NoWorker(FakeWorkers):
        async def sample(
            self, requests: Sequence[SamplingRequest], frames: Any, cost_tokens: int
        ) -> list[Group]:
            if self.version == 4 and requests[0].temperature == 0:
                raise FleetExhausted("no worker is left")
            return await super().sample(requests, frames, cost_tokens)

    run = RunDirectory(tmp_path / "run")
    run.create("{}", "")
    fakes = NoWorker(slow_evaluation().config, random.Random(0))
    with pytest.raises(FleetExhausted, match="no worker is left"):
        asyncio.run(asyncio.wait_for(controller_over(fakes, slow_evaluation(), run).run(), 60))
    assert [e["version"] for e in run.read_lines("evaluations")] == [0]
    assert fakes.closed


def test_frames_of_the_subset_are_decoded_once(tmp_path: Path) -> None:
    looked: Counter[str] = Counter()

    class Counting(FakeWorkers):
        async def look(self, ref: VideoRef) -> tuple[FrameInfo, Any]:
            looked[ref.video_id] += 1
            return await super().look(ref)

    run = RunDirectory(tmp_path / "run")
    run.create("{}", "")
    fakes = Counting(slow_evaluation().config, random.Random(0))
    asyncio.run(asyncio.wait_for(controller_over(fakes, slow_evaluation(), run).run(), 60))
    subset = run.state()["evaluated_videos"]["test"]
    assert {v: n for v, n in looked.items() if v.startswith("t")} == {
        f"t{i}": 1 if f"t{i}" in subset else 2 for i in range(6)
    }


def test_the_best_version_is_chosen_by_the_videos_that_all_were_evaluated_on(tmp_path: Path) -> None:
    """The last version ranks those of the subset best, and the others wrong. The checkpoint of the best one
    stays, and a resumed run reads from the records which it is."""
    run = RunDirectory(tmp_path / "run")
    run.create("{}", "")
    the_job = slow_evaluation("--checkpoint.every_updates=4", "--checkpoint.keep_last=1")

    class Scoring(FakeWorkers):
        def _group(self, request: SamplingRequest, version: int) -> Group:
            group = super()._group(request, version)
            if request.temperature or request.ref.video_id not in mos:
                return group
            right = version == 10 if request.ref.video_id in subset else version == 4
            score = mos[request.ref.video_id] if right or version == 4 else 6 - mos[request.ref.video_id]
            if version == 4 and request.ref.video_id == subset[0]:
                score = 5.0
            answer = replace(group.completions[0], text=f"<think></think><answer>{score}</answer>")
            return replace(group, completions=[answer])

    fakes = Scoring(the_job.config, random.Random(0))
    controller = controller_over(fakes, the_job, run)
    subset = run.state()["evaluated_videos"]["test"]
    mos = {video.video_id: video.mos for video in the_job.evaluation["test"]}
    assert asyncio.run(asyncio.wait_for(controller.run(), 60))["finished"]
    found = {e["version"]: e for e in run.read_lines("evaluations") if e["version"]}
    assert found[8]["subset_srcc"] < found[4]["subset_srcc"] < found[10]["subset_srcc"]
    assert found[10]["srcc"] < found[4]["srcc"]
    kept = {int(p.parent.name[1:]) for p in run.checkpoints.glob("v*/checkpoint.json")}
    assert kept == {4, 10}, "before the last evaluation version 4 was the best"
    journal = Journal(run, the_job.config)
    journal.begin(10, 10, {})
    assert journal.best_version == 10


def test_a_run_without_a_recorded_subset_keeps_evaluating_all_videos(tmp_path: Path) -> None:
    """Started before there were subsets."""
    with pytest.raises(RuntimeError, match="a rank died"):
        run_job(job("--evaluation.videos=0"), tmp_path / "run", fail_at_update=5)
    run = RunDirectory(tmp_path / "run")
    state = run.state()
    del state["evaluated_videos"]
    (run.path / "run.json").write_text(json.dumps(state))
    run_job(slow_evaluation(), run.path, resume=True)
    assert [e["videos"] for e in run.read_lines("evaluations")] == [6, 6, 6, 6]


@pytest.mark.parametrize("staleness", [0, 2])
def test_reference_passes_are_made_while_other_cohorts_are_sampled(tmp_path: Path, staleness: int) -> None:
    """Each sample at most once; samples and fates are those of a run without."""
    settings = ("--schedule.cohorts_per_update=3", f"--schedule.max_staleness={staleness}")
    early = job(*settings, "--learner.early_reference=true")
    run, fakes, summary = run_job(early, tmp_path / "early", slow_video="v02")
    plain, late, _ = run_job(job(*settings), tmp_path / "late")
    assert summary["finished"]
    assert fates(run) == fates(plain)
    assert fakes.trained == late.trained
    assert late.referred == []
    given = [video for _, videos in fakes.given for video in videos]
    assert 0 < len(given) == len(fakes.referred), "what is computed is used"
    assert max(Counter(given).values()) <= 2, "once an epoch"
    assert len(given) < sum(len(videos) for _, videos in fakes.trained)
    assert any(m.get("timing/early_reference_s", 0) > 0 for m in run.read_lines("metrics"))


@pytest.mark.parametrize(
    "setting", ["--learner.kl_coefficient=0", "--rollout.exact=true", "--learner.early_reference=false"]
)
def test_no_early_reference_passes_without_a_reference_or_where_rounding_counts(
    tmp_path: Path, setting: str
) -> None:
    the_job = job("--schedule.cohorts_per_update=3", "--learner.early_reference=true", setting)
    run, fakes, _ = run_job(the_job, tmp_path / "run", slow_video="v02")
    assert fakes.referred == []
    assert not any("timing/early_reference_s" in m for m in run.read_lines("metrics"))


def test_a_worker_gets_weights_between_two_early_passes(tmp_path: Path) -> None:
    """While one cohort of the update is missing, the others' passes leave the learner free in between."""
    asked: list[str] = []
    turn = asyncio.Lock()

    class Locked(FakeWorkers):
        async def reference(self, samples: Sequence[Any]) -> list[Any]:
            async with turn:
                asked.append("reference")
                if len(asked) == 1:
                    self.joining = asyncio.create_task(self.join())
                await asyncio.sleep(0.01)
            return await super().reference(samples)

        async def join(self) -> None:
            async with turn:
                asked.append("join")

    run = RunDirectory(tmp_path / "run")
    run.create("{}", "")
    settings = ("--schedule.cohorts_per_update=4", "--schedule.max_staleness=1")
    the_job = job(*settings, "--learner.early_reference=true")
    fakes = Locked(the_job.config, random.Random(0), slow_video="v02")
    asyncio.run(asyncio.wait_for(controller_over(fakes, the_job, run).run(), 60))
    assert asked[:3] == ["reference", "join", "reference"]
