"""TensorBoard and Weights & Biases: what they hold after a run, read back with their own readers."""

import asyncio
import importlib.util
import io
import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cluster.config import RunConfig, dump_config
from cluster.journal import Metrics
from data.config import DataConfig
from monitoring.config import MetricsConfig, check_wandb
from monitoring.run_dir import RunDirectory
from monitoring.sinks.dashboards import LARGEST_PX, DashboardFeed, Dashboards
from monitoring.sinks.writer import answers, chosen, distributions
from rewards.registry import BUILT_IN
from runtime.errors import ConfigError

FRAMES, FRAME_PX = 4, 56
REWARDS = [reward.name for reward in BUILT_IN]


def record(video: Path, total: list[float], scores: list[float | None]) -> dict[str, Any]:
    """A line of groups.jsonl."""
    n = len(total)
    ref = {"video_id": video.name, "path": str(video), "n_frames": FRAMES, "perturbation": None}
    return {
        "video_id": video.name,
        "mos": 3.4,
        "status": "trained",
        "reason": "",
        "worker": "rollout-0",
        "clean": {
            "ref": ref,
            "texts": [f"<think>blur | noise\n{i}</think><answer>3</answer>" for i in range(n)],
            "tokens": [20 + i for i in range(n)],
            "versions": [[0]] * n,
            "scores": scores,
            "total": total,
            **{name: [0.25] * n for name in REWARDS},
            "advantages": [-1.0 + 2 * i for i in range(n)],
        },
        "perturbed": None,
    }


def dashboards_of(config: RunConfig) -> Dashboards:
    assert config.run_dir is not None
    return Dashboards(config.metrics, config.data, config.run_dir, config.model_dump(mode="json"), REWARDS)


@pytest.fixture
def records(videos: list[Path]) -> list[dict[str, Any]]:
    rewards = [[0.5, 1.5], [2.0, 3.0], [0.0, 0.5]]
    return [record(v, r, [2.5, None]) for v, r in zip(videos, rewards, strict=False)]


def config_of(folder: Path, videos: list[Path], **metrics: Any) -> RunConfig:
    run = RunDirectory(folder / "run")
    config = RunConfig(
        run_dir=run.path,
        name="demo",
        data=DataConfig(manifest=videos[0].parent / "manifest.csv"),
        metrics=MetricsConfig.model_validate({"prometheus": False, **metrics}),
    )
    run.create(dump_config(config), "")
    return config


def tensorboard_of(config: RunConfig) -> EventAccumulator:
    assert config.run_dir is not None
    found = EventAccumulator(
        str(config.run_dir / "tensorboard"), size_guidance={"images": 0, "tensors": 0, "histograms": 0}
    )
    found.Reload()
    return found


def text_of(events: EventAccumulator, place: str) -> str:
    return events.Tensors(f"groups/{place}/text_summary")[0].tensor_proto.string_val[0].decode()


# What is shown


def test_distributions_are_of_all_completions(records: list[dict[str, Any]]) -> None:
    found = distributions(records)
    assert found["completions/score"] == [2.5, 2.5, 2.5]
    assert found["completions/reward"] == [0.5, 1.5, 2.0, 3.0, 0.0, 0.5]
    assert found["completions/advantage"] == [-1.0, 1.0] * 3
    assert found["completions/tokens"] == [20, 21] * 3
    assert found["groups/reward_std"] == [0.5, 0.5, 0.25]
    assert distributions([]) == {}


def test_lowest_middle_and_highest_are_shown(records: list[dict[str, Any]]) -> None:
    names = [r["video_id"] for r in records]
    found = {place: r["video_id"] for place, r in chosen(records).items()}
    assert found == {"lowest": names[2], "middle": names[0], "highest": names[1]}
    assert list(chosen(records[:2])) == ["lowest", "highest"]
    assert list(chosen(records[:1])) == ["highest"]
    assert chosen([]) == {}


def test_answers_are_sorted_by_reward(records: list[dict[str, Any]]) -> None:
    assert [(row[0], row[1]) for row in answers(records[0], REWARDS)] == [(None, 1.5), (2.5, 0.5)]


# TensorBoard


def test_tensorboard_has_scalars_histograms_and_groups(
    tmp_path: Path, videos: list[Path], records: list[dict[str, Any]]
) -> None:
    config = config_of(tmp_path, videos, groups_every_updates=2)
    board = dashboards_of(config)
    board.begin(0, 0)
    for version in (1, 2, 3):
        board.update(version, {"reward/total": version / 2}, records)
    board.scalars(3, {"eval/test/srcc": 0.5})
    board.close()

    events = tensorboard_of(config)
    assert [(e.step, e.value) for e in events.Scalars("reward/total")] == [(1, 0.5), (2, 1.0), (3, 1.5)]
    assert [(e.step, e.value) for e in events.Scalars("eval/test/srcc")] == [(3, 0.5)]
    assert set(events.Tags()["histograms"]) == set(distributions(records))
    rewards = events.Histograms("completions/reward")
    assert [e.step for e in rewards] == [1, 2, 3]
    value = rewards[0].histogram_value
    assert (value.num, value.min, value.max) == (6, 0.0, 3.0)

    for place in ("lowest", "middle", "highest"):
        assert [e.step for e in events.Images(f"groups/{place}")] == [1, 3]
    shown = Image.open(io.BytesIO(events.Images("groups/lowest")[0].encoded_image_string))
    assert shown.size == (FRAMES * FRAME_PX, FRAME_PX)
    assert np.asarray(shown).std() > 10
    text = text_of(events, "lowest")
    assert records[2]["video_id"] in text
    assert "&lt;think&gt;blur \\| noise 1&lt;/think&gt;" in text
    assert len([line for line in text.splitlines() if line.startswith("|")]) == 4


def test_tensorboard_forgets_what_a_resumed_run_does_again(
    tmp_path: Path, videos: list[Path], records: list[dict[str, Any]]
) -> None:
    config = config_of(tmp_path, videos, groups_every_updates=0)
    board = dashboards_of(config)
    board.begin(0, 0)
    for version in (1, 2, 3):
        board.update(version, {"reward/total": 1.0}, records)
    board.scalars(1, {"eval/test/srcc": 0.25})
    board.begin(1, 1)
    board.update(2, {"reward/total": 2.0}, records)
    board.close()

    events = tensorboard_of(config)
    assert [(e.step, e.value) for e in events.Scalars("reward/total")] == [(1, 1.0), (2, 2.0)]
    assert [(e.step, e.value) for e in events.Scalars("eval/test/srcc")] == [(1, 0.25)]
    assert events.Tags()["images"] == []


def test_a_video_that_is_gone_is_shown_without_frames(
    tmp_path: Path, videos: list[Path], records: list[dict[str, Any]]
) -> None:
    gone = videos[0].parent / "gone.mp4"
    config = config_of(tmp_path, videos)
    board = dashboards_of(config)
    board.begin(0, 0)
    board.update(1, {}, [record(gone, [0.0, 0.0], [1.0, 1.0]), *records])
    board.close()
    events = tensorboard_of(config)
    assert sorted(events.Tags()["images"]) == ["groups/highest", "groups/middle"]
    assert "Frames cannot be shown" in text_of(events, "lowest")
    assert "gone.mp4" in text_of(events, "lowest")


def test_pictures_of_large_frames_are_shrunk(tmp_path: Path) -> None:
    from data.lossless import write_lossless
    from tests.conftest import moving_frames

    video = tmp_path / "large.mp4"
    write_lossless(video, moving_frames(8, px=448))
    config = config_of(tmp_path, [video])
    board = dashboards_of(config)
    board.begin(0, 0)
    board.update(1, {}, [record(video, [1.0, 2.0], [1.0, 2.0])])
    board.close()
    (shown,) = tensorboard_of(config).Images("groups/highest")
    assert (shown.width, shown.height) == (LARGEST_PX, LARGEST_PX // FRAMES)


# Without holding up a run


class UnwellActor:
    """Fails, or hangs, at its second call."""

    def __init__(self, hangs: bool) -> None:
        self._hangs = hangs
        self._calls = 0

    def update(self) -> None:
        self._calls += 1
        if self._calls == 2:
            if self._hangs:
                time.sleep(60)
            raise OSError("no space left on device")

    def close(self) -> None: ...


@pytest.mark.engine
@pytest.mark.parametrize(
    ("hangs", "reason"),
    [(False, "OSError: no space left on device"), (True, "dashboards.update: no answer within 1 s")],
)
def test_dashboards_that_fail_are_given_up(local_ray: None, hangs: bool, reason: str) -> None:
    lost: list[str] = []

    async def tell() -> float:
        actor: Any = ray.remote(UnwellActor)
        actor = actor.options(num_cpus=0).remote(hangs)
        await actor.close.remote()  # it has started
        feed = DashboardFeed(actor, lost.append, timeout_s=1.0)
        started = time.monotonic()
        for _ in range(5):
            feed.tell("update")
        told_s = time.monotonic() - started
        await feed.close(timeout_s=10)
        return told_s

    assert asyncio.run(asyncio.wait_for(tell(), 30)) < 0.5
    assert len(lost) == 1
    assert reason in lost[0]


@pytest.mark.engine
def test_metrics_reach_tensorboard_through_its_process(
    local_ray: None, tmp_path: Path, videos: list[Path], records: list[dict[str, Any]]
) -> None:
    config = config_of(tmp_path, videos)
    assert config.run_dir is not None
    run, faults = RunDirectory(config.run_dir), []

    async def write() -> None:
        metrics = Metrics(run, config, lambda *fault: faults.append(fault))
        metrics.begin(run.start_attempt(0), 0)
        for update in range(3):
            metrics.update(update, {"reward/total": 1.0 + update}, records)
        metrics.evaluation(3, {"eval/test/srcc": 0.5})
        await metrics.close()

    asyncio.run(asyncio.wait_for(write(), 120))
    assert faults == []
    events = tensorboard_of(config)
    assert [(e.step, e.value) for e in events.Scalars("reward/total")] == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert [e.step for e in events.Images("groups/highest")] == [1]
    assert [m["reward/total"] for m in run.read_lines("metrics")] == [1.0, 2.0, 3.0]


# Weights & Biases


def test_without_its_package_weights_and_biases_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_wandb(MetricsConfig())
    with pytest.raises(ConfigError, match="metrics.wandb is 'offline'.*pip install 'wandb"):
        check_wandb(MetricsConfig(wandb="offline"))


def with_wandb() -> None:
    if importlib.util.find_spec("wandb") is None:
        pytest.skip("needs the extra `wandb`")


def test_online_without_a_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_wandb()
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(ConfigError, match="WANDB_API_KEY"):
        check_wandb(MetricsConfig(wandb="online"))


def test_weights_and_biases_offline_has_scalars_histograms_and_groups(
    tmp_path: Path, videos: list[Path], records: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_wandb()
    key = "0123456789abcdef" * 2 + "01234567"
    monkeypatch.setenv("WANDB_API_KEY", key)
    config = config_of(tmp_path, videos, tensorboard=False, wandb="offline", wandb_project="quality")
    check_wandb(config.metrics)
    board = dashboards_of(config)
    board.begin(0, 0)
    board.update(1, {"reward/total": 0.5}, records)
    board.update(2, {"reward/total": 1.0}, records)
    board.scalars(2, {"eval/test/srcc": 0.5})
    board.begin(1, 1)
    board.update(2, {"reward/total": 2.0}, records)
    board.close()

    assert config.run_dir is not None
    attempts = [logged(path) for path in sorted(config.run_dir.glob("wandb/offline-run-*/*.wandb"))]
    first, second = sorted(attempts, key=len, reverse=True)
    values = [(row["version"], row["reward/total"]) for row in first if "reward/total" in row]
    assert values == [(1, 0.5), (2, 1.0)]
    assert [(r["version"], r["reward/total"]) for r in second if "reward/total" in r] == [(2, 2.0)]
    assert {"version": 2, "eval/test/srcc": 0.5}.items() <= first[-1].items()
    histograms = [row for row in first if row.get("completions/reward/_type") == "histogram"]
    assert [row["version"] for row in histograms] == [1, 2]
    assert sum(histograms[0]["completions/reward/values"]) == 6
    (groups,) = [row for row in first if row.get("groups/answers/_type") == "table-file"]
    assert (groups["version"], groups["groups/answers/nrows"]) == (1, 6)
    assert (groups["groups/lowest/width"], groups["groups/lowest/height"]) == (FRAMES * FRAME_PX, FRAME_PX)

    everything = [path for path in config.run_dir.rglob("*") if path.is_file()]
    assert not [path for path in everything if key.encode() in path.read_bytes()]


def logged(path: Path) -> list[dict[str, Any]]:
    """The rows that a run in a .wandb file has logged, in order."""
    from wandb.proto import wandb_internal_pb2

    rows = []
    for data in leveldb_records(path.read_bytes()[7:], first_block=7):
        told = wandb_internal_pb2.Record()
        told.ParseFromString(data)
        if told.WhichOneof("record_type") == "history":
            items = told.history.item
            rows.append({"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items})
    return rows


def leveldb_records(log: bytes, first_block: int) -> Iterator[bytes]:
    """Records of a LevelDB log, whose blocks of 32 KiB none of their headers (CRC, length, kind) cross;
    `first_block`: bytes of the first one that went before."""
    at, record = 0, b""
    while at < len(log):
        left = 32768 - (at + first_block) % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", log, at)
        record += log[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""
