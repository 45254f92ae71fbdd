"""Statistics of the fleet, the metrics that Prometheus gets, and the dashboards that query them."""

import asyncio
import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from cluster import controller
from cluster.config import RunConfig
from cluster.journal import Metrics
from monitoring.config import MetricsConfig
from monitoring.grafana import __main__ as grafana
from monitoring.grafana.check import check
from monitoring.grafana.panels import DASHBOARDS
from monitoring.metric_table import METRICS
from monitoring.run_dir import RunDirectory
from monitoring.sinks import prometheus
from rollout.config import RolloutConfig
from rollout.fleet import RolloutFleet
from rollout.fleet_watch import FleetWatch, WorkerFigures, worker_figures
from rollout.member import Member
from rollout.placement import Placement
from rollout.worker import WorkerStats
from tests.fakes import job, run_job

# Figures


def test_figures_are_those_between_two_totals() -> None:
    then = WorkerStats("w", 3, 10, 400, 100, 1000, 5.0, 100.0)
    now = WorkerStats("w", 4, 12, 500, 175, 1600, 8.0, 110.0)
    assert worker_figures(then, now, 64) == WorkerFigures("w", 4, 60.0, 0.7, 0.75, 64)


def test_an_idle_worker_has_no_cached_share() -> None:
    then = WorkerStats("w", 3, 10, 400, 100, 1000, 5.0, 100.0)
    now = WorkerStats("w", 3, 10, 400, 100, 1000, 5.0, 110.0)
    figures = worker_figures(then, now, 0)
    assert (figures.tokens_per_s, figures.idle_share) == (0.0, 1.0)
    assert math.isnan(figures.cached_prompt_share)


class SlowFleet:
    """Answers when it is let."""

    healthy = ("w",)
    outstanding_tokens: Mapping[str, int] = {}
    waiting = 0

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.error: Exception | None = None

    async def stats(self, timeout_s: float) -> list[WorkerStats]:
        self.asked += 1
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return [WorkerStats("w", 0, 0, 0, 0, 0, 0.0, float(self.asked))]


def test_a_look_under_way_is_not_waited_for_and_not_repeated() -> None:
    async def look() -> None:
        fleet, reports = SlowFleet(), []
        watch = FleetWatch(cast(RolloutFleet, fleet), lambda *report: reports.append(report), every_s=0.0)
        for update in range(3):
            watch.look(update)
            await asyncio.sleep(0)
        assert fleet.asked == 1
        assert reports == []
        fleet.may_answer.set()
        await asyncio.sleep(0.01)
        watch.look(3)
        await asyncio.sleep(0.01)
        assert [(update, len(figures)) for update, figures, _ in reports] == [(0, 0), (3, 1)]
        await watch.close()

    asyncio.run(look())


def test_looks_keep_their_distance() -> None:
    async def look() -> int:
        fleet = SlowFleet()
        fleet.may_answer.set()
        watch = FleetWatch(cast(RolloutFleet, fleet), lambda *report: None, every_s=60.0)
        for update in range(3):
            watch.look(update)
            await asyncio.sleep(0.01)
        return fleet.asked

    assert asyncio.run(look()) == 1


def test_an_error_of_a_look_is_raised_at_the_next() -> None:
    async def look() -> None:
        fleet = SlowFleet()
        fleet.may_answer.set()
        fleet.error = RuntimeError("no totals")
        watch = FleetWatch(cast(RolloutFleet, fleet), lambda *report: None, every_s=0.0)
        watch.look(0)
        await asyncio.sleep(0.01)
        watch.look(1)

    with pytest.raises(RuntimeError, match="no totals"):
        asyncio.run(look())


def test_a_run_records_what_its_workers_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "FleetWatch", partial(FleetWatch, every_s=0.0))
    run, fakes, _ = run_job(job(), tmp_path / "run")
    records = list(run.read_lines("fleet"))
    assert len(records) == fakes.looks - 1
    assert {r["worker"] for r in records} == {"fake-0"}, "the other never answered twice"
    assert all(
        (r["tokens_per_s"], r["idle_share"], r["outstanding_tokens"]) == (25, 0.25, 64) for r in records
    )
    assert {"attempt", "update", "time", "version", "cached_prompt_share"} < set(records[0])
    last = list(run.read_lines("metrics"))[-1]
    assert (last["rollout/prefix_cache_hit_ratio"], last["rollout/waiting_videos"]) == (0.25, 3.0)


class FakeActor:
    """A worker whose `stats` take some time."""

    def __init__(self, worker: str, seconds: float) -> None:
        self._worker, self._seconds = worker, seconds

    @property
    def stats(self) -> "FakeActor":
        return self

    async def remote(self) -> WorkerStats:
        await asyncio.sleep(self._seconds)
        return WorkerStats(self._worker, 0, 0, 0, 0, 0, 0.0, 0.0)


def test_a_worker_that_is_slow_to_say_what_it_does_stays() -> None:
    """Its work has a deadline of its own; nor does asking wait for workers that join, or for new weights."""

    async def ask() -> list[str]:
        fleet = RolloutFleet(RolloutConfig(), "model", frames_per_video=4, seed=0)
        for worker, seconds in {"quick": 0.0, "slow": 60.0}.items():
            place = cast(Placement, None)
            fleet._members[worker] = Member(worker, FakeActor(worker, seconds), place, healthy=True)
        async with fleet._membership:
            found = await fleet.stats(timeout_s=0.05)
        assert fleet.healthy == ["quick", "slow"]
        assert fleet.restarts == 0
        return [stats.worker_id for stats in found]

    assert asyncio.run(asyncio.wait_for(ask(), 10)) == ["quick"]


# Prometheus


class FakeMetric:
    """Keeps what Ray would receive: values by name and labels."""

    told: ClassVar[dict[tuple[str, tuple[str, ...]], list[float]]] = defaultdict(list)

    def __init__(
        self, name: str, description: str = "", boundaries: Any = None, tag_keys: tuple[str, ...] = ()
    ) -> None:
        assert re.fullmatch("[a-z][a-z0-9_]*", name)
        self._name, self._keys = name, tag_keys

    def set(self, value: float, tags: Mapping[str, str]) -> None:
        assert set(tags) == set(self._keys)
        self.told[self._name.removeprefix("vqathinker_"), tuple(tags.values())].append(value)

    inc = observe = set


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, tuple[str, ...]], list[float]]:
    monkeypatch.setattr(FakeMetric, "told", defaultdict(list))
    for kind in ("Gauge", "Counter", "Histogram"):
        monkeypatch.setattr(prometheus, kind, FakeMetric)
    return FakeMetric.told


def metrics(folder: Path) -> Metrics:
    run = RunDirectory(folder)
    run.create("{}", "")
    config = RunConfig(name="demo", metrics=MetricsConfig(tensorboard=False))
    found = Metrics(run, config, on_fault=lambda actor, reason: None)
    found.begin(run.start_attempt(0), 0)
    return found


def test_prometheus_is_told_of_updates(tmp_path: Path, told: Any) -> None:
    group = {"clean": {"scores": [2.5, None], "total": [1.25, 0.5], "tokens": [20, 32]}}
    values = {"reward/total": 1.5, "policy/entropy": math.nan, "reward_by_set/a-b/total": 1.0}
    metrics(tmp_path).update(0, values | {"data/trained_videos": 1.0, "data/failed_videos": 0.0}, [group])
    assert told["reward_total", ("demo",)] == [1.5]
    assert told["reward_by_set_a_b_total", ("demo",)] == [1.0]
    assert ("policy_entropy", ("demo",)) not in told
    assert told["updates", ("demo",)] == [1]
    assert told["videos", ("demo", "trained")] == [1.0]
    assert ("videos", ("demo", "failed")) not in told
    assert told["completion_score", ("demo",)] == [2.5]
    assert told["completion_reward", ("demo",)] == [1.25, 0.5]
    assert told["completion_length", ("demo",)] == [20, 32]


def test_prometheus_is_told_who_is_gone(tmp_path: Path, told: Any) -> None:
    found = metrics(tmp_path)
    found.fleet(0, [WorkerFigures("w0", 0, 30.0, 0.5, math.nan, 0)], ["w0", "w1"])
    found.fleet(1, [WorkerFigures("w0", 1, 40.0, 0.5, 0.2, 0)], ["w0"])
    found.fault("w1", 1.7e9)
    assert told["worker_tokens_per_s", ("demo", "w0")] == [30.0, 40.0]
    assert told["worker_cached_prompt_share", ("demo", "w0")] == [0.2]
    assert told["worker_healthy", ("demo", "w0")] == [1.0, 1.0]
    assert told["worker_healthy", ("demo", "w1")] == [1.0, 0.0]
    assert told["faults", ("demo", "w1")] == [1]
    assert told["fault_timestamp_seconds", ("demo", "w1")] == [1.7e9]


# Dashboards


def test_the_committed_dashboards_are_what_the_program_writes() -> None:
    for path, text in grafana.files().items():
        assert path.read_text() == text, "run `python -m monitoring.grafana`"
    assert set(grafana.FOLDER.glob("*.json")) == set(grafana.files())


def test_dashboards_ask_for_metrics_that_a_run_has(tmp_path: Path, told: Any) -> None:
    """Names of figures and counters; those of updates come from the learner and the training batch."""
    found = metrics(tmp_path)
    found.fleet(0, [WorkerFigures("w", 0, 30.0, 0.5, 0.5, 0)], ["w"])
    found.fault("w", 1.7e9)
    group = {"clean": {"scores": [2.5], "total": [1.25], "tokens": [20]}}
    found.update(0, {"data/trained_videos": 1.0}, [group])
    known = {name for name, _ in told} - {"data_trained_videos"}
    panels = [q.expression for d in DASHBOARDS for p in d.panels for q in p.queries]
    queries = " ".join(panels + [event.expression for d in DASHBOARDS for event in d.events])
    asked = set(re.findall(r"ray_vqathinker_((?:worker|completion|updates|videos|faults?)_\w+)", queries))
    assert {re.sub("_(total|bucket)$", "", name) for name in asked} == known


def test_the_check_tells_queries_with_data_from_those_without() -> None:
    asked: list[str] = []

    def ask(query: str) -> list[dict[str, Any]]:
        asked.append(query)
        return [] if "faults" in query else [{"metric": {}, "values": [[0, "NaN"], [1, "0.5"]]}]

    dashboards = [json.loads(text) for text in grafana.files().values()]
    answers = list(check(dashboards, {"$run": "demo", "$__rate_interval": "1m", "$__range": "900s"}, ask))
    assert {a.panel for a in answers if not a.points} == {"Faults"}
    assert {a.last for a in answers if a.points} == {0.5}
    assert not [query for query in asked if "$run" in query or "$__" in query]


def test_ray_takes_the_description_of_every_metric() -> None:
    """Ray's own gauges refuse text that is not ASCII, and a reward may be described in any language."""
    sink = prometheus.PrometheusSink("demo")
    sink.scalars(dict.fromkeys(METRICS, 1.0) | {"reward/größe": 1.0})
