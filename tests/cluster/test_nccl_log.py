"""The transports read from NCCL's logs, in the format of NCCL 2.29."""

import asyncio
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from cluster.config import load_config
from cluster.nccl_log import describe, nccl_log_environment, read_nccl_logs, start_nccl_logs, tcp_warning
from cluster.run_actors import RunActors
from monitoring.run_dir import RunDirectory
from rollout.placement import Placement
from runtime.errors import ConfigError
from tests.fakes import FakeWorkers, controller_over, job

_START = "node-1:41:41 [0] NCCL INFO "


def write(folder: Path, name: str, *lines: str) -> None:
    (folder / name).write_text("".join(f"{_START}{line}\n" for line in lines))


def test_connections_are_counted_by_kind(tmp_path: Path) -> None:
    write(
        tmp_path,
        "node-1-41.log",
        "NET/IB : Using [0]mlx5_0:1/IB [RO]; OOB eth0:10.0.0.1<0>",
        "Using network IB",
        "Channel 00/02 : 0 1 2 3",
        "Channel 00/0 : 3[3] -> 0[0] [receive] via NET/IB/0/GDRDMA",
        "Channel 00/0 : 0[0] -> 4[0] [send] via NET/IB/0(1)/GDRDMA",
        "Channel 00/0 : 0[0] -> 1[1] via P2P/IPC/read",
        "Channel 01 : 0[0] -> 1[1] via SHM/direct/direct",
        "CollNet 00/0 : 0 [send] via COLLNET/SHARP/0/GDRDMA",
    )
    (found,) = read_nccl_logs(tmp_path)
    assert found.process == "node-1-41"
    assert found.networks == ("IB",)
    assert found.connections == {"COLLNET/SHARP": 1, "NET/IB": 2, "P2P": 1, "SHM": 1}
    assert not found.uses_tcp
    assert tcp_warning([found]) is None
    assert "NET/IB" in describe([found])


def test_tcp_between_nodes_is_warned_of_and_a_local_socket_is_not(tmp_path: Path) -> None:
    write(
        tmp_path,
        "node-1-41.log",
        "NET/IB : No device found.",
        "Using network Socket",
        "Channel 00/0 : 0[0] -> 1[0] [send] via NET/Socket/0",
    )
    # The only network of a machine without adapters is TCP: nothing is sent over it on one node.
    write(tmp_path, "node-2-7.log", "Using network Socket", "Channel 00/0 : 0[0] -> 1[1] via P2P/IPC")
    found = read_nccl_logs(tmp_path)
    assert [transport.uses_tcp for transport in found] == [True, False]
    warning = tcp_warning(found)
    assert warning is not None
    assert "1 of 2 processes (node-1-41)" in warning


def test_a_process_without_a_communicator_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, "node-1-9.log", "NCCL version 2.29.7+cuda13.2")
    assert read_nccl_logs(tmp_path) == []


def test_names_that_nccl_would_replace_are_refused(tmp_path: Path) -> None:
    assert nccl_log_environment(tmp_path)["NCCL_DEBUG_FILE"] == f"{tmp_path}/%h-%p.log"
    with pytest.raises(ConfigError, match="without it"):
        nccl_log_environment(tmp_path / "100%p")


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("NCCL_DEBUG")]:
        monkeypatch.delenv(name)


def test_a_start_deletes_the_logs_of_the_one_before(tmp_path: Path, no_settings: None) -> None:
    folder = tmp_path / "run" / "nccl"
    assert start_nccl_logs(folder) == nccl_log_environment(folder)
    write(folder, "node-1-41.log", "Using network Socket")
    start_nccl_logs(folder)
    assert read_nccl_logs(folder) == []


def test_the_users_own_settings_of_nccls_log_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCCL_DEBUG_FILE", "/elsewhere/%h.log")
    assert start_nccl_logs(tmp_path / "nccl") == {}
    assert not (tmp_path / "nccl").exists()


@pytest.mark.parametrize("gpus", [0, 1])
def test_ranks_and_rollout_workers_on_gpus_log_nccl(tmp_path: Path, gpus: int, no_settings: None) -> None:
    overrides = [f"--learner.gpus_per_rank={gpus}", f"--rollout.gpus_per_replica={gpus}"]
    config = load_config(None, [*overrides, f"--run_dir={tmp_path}"])
    actors = RunActors(replace(job(), config=config), lambda *_: None, lambda *_: None)
    expected = nccl_log_environment(tmp_path / "nccl") if gpus else {}
    assert actors.learner._environment == actors.fleet._environment == expected
    assert (tmp_path / "nccl").exists() == bool(gpus)
    placed = Placement("rollout-0", cast(Any, None), config.rollout).actor_options("model", expected)
    assert expected.items() <= placed["runtime_env"]["env_vars"].items()


def test_a_run_records_the_transports_once_after_its_first_update(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create("{}", "")
    run.nccl.mkdir()
    write(
        run.nccl,
        "node-1-41.log",
        "Using network Socket",
        "Channel 00/0 : 0[0] -> 1[0] [send] via NET/Socket/0",
    )
    the_job = job()
    controller = controller_over(FakeWorkers(the_job.config, random.Random(0)), the_job, run)
    asyncio.run(asyncio.wait_for(controller.run(), 60))
    assert run.state()["nccl"] == [
        {"process": "node-1-41", "networks": ["Socket"], "connections": {"NET/Socket": 1}}
    ]
    _, events = controller.journal.events(0)
    found = [e["kind"] for e in events if "NCCL" in e.get("text", "")]
    assert found == ["note", "warning"]
    kinds = [event["kind"] for event in events]
    assert kinds.index("update") < next(i for i, e in enumerate(events) if "NCCL" in e.get("text", ""))
    assert [r["update"] for r in run.read_lines("metrics")] == list(range(10))
