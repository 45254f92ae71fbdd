"""Ending a run from another process: the wish reaches it, what came of it is said, mistakes are named."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from cluster.remote import stop as reach
from cluster.remote.stop import Ended
from cluster.remote.whereabouts import Whereabouts
from launch import main
from monitoring.run_dir import RunDirectory
from runtime.calls import DeadlineError
from runtime.placement import PlacementError

ROOT = Path(__file__).resolve().parents[2]

A_RUN = """
import asyncio, sys
from pathlib import Path
import ray
from cluster.controller_actor import actor_name, require_free_name
from cluster.config import ClusterConfig, ConfigError
from monitoring.run_dir import RunDirectory
from runtime.session import ray_session
from cluster.remote.stop import findable

class Controller:
    def __init__(self, folder):
        self.folder, self.asked = folder, asyncio.Event()
    async def stop(self):
        self.asked.set()
        return self.folder
    async def run(self):
        await self.asked.wait()

run = RunDirectory(Path(sys.argv[1]))
with ray_session(ClusterConfig(object_store_mb=80), 1):
    require_free_name("mine")
    controller = ray.remote(Controller).options(name=actor_name("mine"), num_cpus=0).remote(run.path)
    with findable(run, "mine"):
        running = controller.run.remote()
        ray.wait([controller.__ray_ready__.remote()])
        try:
            require_free_name("mine")
        except ConfigError as error:
            print(error, flush=True)
        ray.get(running, timeout=200)
        checkpoint = run.checkpoint(3)
        checkpoint.mkdir()
        (checkpoint / "checkpoint.json").write_text("{}")
"""


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run directory after three updates."""
    run = RunDirectory(tmp_path / "run")
    run.create("{}", "hash")
    attempt = run.start_attempt(0)
    run.append("metrics", *({"update": n, "attempt": attempt} for n in range(3)))
    return run


def stop(*arguments: str) -> tuple[int, str]:
    """(exit code, output) of `launch.py stop`."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), "stop", *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        env={k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "RAY_AUTH_MODE")}
        | {"COLUMNS": "300"},
    )
    return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)


@pytest.mark.engine
def test_a_run_on_a_ray_of_its_own_is_stopped_by_its_folder(run: RunDirectory) -> None:
    """And its name is taken while it runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", A_RUN, str(run.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert "a run named 'mine' is already active in this cluster: give this one another --name" in (
        process.stdout.readline()
    )
    code, output = stop(str(run.path))
    assert code == 0, output
    assert "Ended after 3 updates: a checkpoint holds all of them" in output
    assert f"launch.py train --resume --run_dir={run.path}" in output
    assert process.wait(timeout=60) == 0
    assert not (run.path / "ray.json").exists()


def test_a_folder_without_a_run_going_on(run: RunDirectory, tmp_path: Path) -> None:
    code, output = stop(str(run.path))
    assert (code, "no run is active there" in output) == (2, True)
    code, output = stop(str(tmp_path / "nothing"))
    assert (code, "holds no run" in output) == (2, True)


@pytest.mark.parametrize("command", ["stop mine", "status mine", "scale mine --rollout-workers=2"])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RayTaskError("scale", "Traceback: ...", PlacementError("no room")), "PlacementError: no room"),
        (ActorDiedError(), "ActorDiedError: The actor died unexpectedly"),
        (DeadlineError("vqathinker-mine.scale: no answer within 9 s"), "no answer within 9 s"),
    ],
    ids=["fails", "dies", "is late"],
)
def test_a_run_that_cannot_do_what_it_is_asked(
    command: str,
    error: Exception,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command says so in one message."""

    async def ask(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(reach, "_ask", ask)
    monkeypatch.setattr(reach, "join_cluster", lambda address: None)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    monkeypatch.setattr("sys.argv", ["launch.py", *command.split()])
    with pytest.raises(SystemExit, match="1"):
        main()
    shown = " ".join(capsys.readouterr().err.split())
    assert said in shown
    assert "Traceback" not in shown


def test_a_run_that_was_cut_off(run: RunDirectory) -> None:
    """Its Ray is gone, its note is not."""
    Whereabouts("mine", "127.0.0.1:1").write(run.path)
    code, output = stop(str(run.path))
    assert code == 2
    assert "its Ray at 127.0.0.1:1 does not answer" in output
    assert "launch.py train --resume" in output


@pytest.mark.parametrize(
    ("checkpoint", "finished", "said"),
    [
        (None, False, "holds no checkpoint"),
        (3, False, "a checkpoint holds all of them"),
        (1, False, "a checkpoint holds all but the last 2 of them"),
        (3, True, "it had finished; its model is in run/final"),
    ],
)
def test_the_end_in_words(checkpoint: int | None, finished: bool, said: str) -> None:
    assert said in Ended(Path("run"), 3, checkpoint, finished).outcome
