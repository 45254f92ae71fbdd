"""A run by `ray job submit` on a real cluster of three nodes: it goes where it was told, stops, goes on, and
leaves nothing behind."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.runs import BASE, ROOT, command, lines, make_set

pytestmark = [pytest.mark.slow, pytest.mark.engine, pytest.mark.timeout(3000)]

BIN = Path(sys.executable).parent
PATIENCE_S = 600


class Cluster:
    """A head and a node for each of learner and rollout, by `ray start`, behind a token."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Names of sockets may not be long, and Ray's begin with its folder: pytest's would not do.
        self._ray_folder = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
        self._nodes: list[subprocess.Popen[bytes]] = []
        self.address, self.dashboard = f"127.0.0.1:{_free_port()}", f"127.0.0.1:{_free_port()}"
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        self.environment = os.environ | {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "RAY_ADDRESS": f"http://{self.dashboard}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_JOB_STOP_WAIT_TIME_S": "120",
            "RAY_raylet_start_wait_time_s": "180",
        }

    def start(self) -> None:
        port, dashboard_port = (a.rsplit(":", 1)[1] for a in (self.address, self.dashboard))
        self._node(
            "head", "--head", "--num-cpus=1", f"--port={port}", f"--temp-dir={self._ray_folder.name}",
            "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard_port}",
        )  # fmt: skip
        for name in ("learner", "rollout"):
            self._node(name, "--num-cpus=3", f"--address={self.address}")
        until(lambda: self.ray("job", "submit", "--", "true")[0] == 0, "jobs are taken")

    def ray(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """(exit code, output) of a command of Ray."""
        done = subprocess.run(
            ["ray", *arguments],
            cwd=ROOT,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        return done.returncode, done.stdout + done.stderr

    def ended(self, job: str) -> bool:
        """Asks the job server itself: a command of Ray takes seconds of a processor that the run wants."""
        token = Path(self.environment["RAY_AUTH_TOKEN_PATH"]).read_text()
        asked = urllib.request.Request(
            f"http://{self.dashboard}/api/jobs/{job}", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
            return json.load(answer)["status"] in ("STOPPED", "SUCCEEDED", "FAILED")

    def actors(self) -> dict[str, set[str]]:
        """Groups of the nodes on which the living actors of each class are."""
        script = (
            "import json, ray; from ray.util.state import list_actors;"
            f"ray.init(address='{self.address}', log_to_driver=False, logging_level='ERROR');"
            "group = {n['NodeID']: n['Labels']['group'] for n in ray.nodes()};"
            "living = list_actors(filters=[('state', '=', 'ALIVE')]);"
            "print(json.dumps([(a.class_name, group[a.node_id]) for a in living]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], env=self.environment, capture_output=True, text=True, timeout=120
        )
        found: dict[str, set[str]] = {}
        for name, group in json.loads(done.stdout.splitlines()[-1]):
            found.setdefault(name, set()).add(group)
        return found

    def stop(self) -> None:
        for node in reversed(self._nodes):
            node.terminate()
        for node in self._nodes:
            try:
                node.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(node.pid, signal.SIGKILL)
        self._ray_folder.cleanup()

    def _node(self, name: str, *arguments: str) -> None:
        log = self._folder / f"{name}.log"
        self._nodes.append(
            subprocess.Popen(
                ["ray", "start", "--block", "--disable-usage-stats", f"--labels=group={name}",
                 "--object-store-memory=150000000", *arguments,
                 # Its default is one port, which another Ray on this machine may have; no job is taken then.
                 f"--dashboard-agent-listen-port={_free_port()}"],
                env=self.environment,
                stdout=log.open("w"),
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        )  # fmt: skip
        until(lambda: "block forever" in log.read_text(), f"{name} is up")


def until(met: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not met():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.5)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def test_a_run_as_a_job(cluster: Cluster, tmp_path: Path) -> None:
    run = tmp_path / "run"
    _, _, *train = command(
        make_set(tmp_path), BASE, run,
        "--schedule.epochs=200", "--schedule.updates=10000", "--learner.ranks=1",
        "--learner.label_selector=group=learner", "--rollout.label_selector=group=rollout",
    )  # fmt: skip

    def submit(name: str, *arguments: str, options: Sequence[str] = ()) -> tuple[int, str]:
        wait = [] if name.startswith(("stop", "again")) else ["--no-wait"]
        options = [f"--submission-id={name}", "--working-dir=.", *wait, *options]
        return cluster.ray("job", "submit", *options, "--", "python", "launch.py", *arguments)

    def updates() -> int:
        return len(lines(run, "metrics")) if (run / "metrics.jsonl").exists() else 0

    def trains(job: str, beyond: int) -> None:
        """Waits for more updates than `beyond`; a job that ends before fails the test, with its log."""
        until(lambda: updates() > beyond or cluster.ended(job), f"{job} trains")
        assert updates() > beyond, cluster.ray("job", "logs", job)[1]

    code, output = cluster.ray("job", "list", RAY_AUTH_TOKEN="wrong")
    assert code != 0
    assert "token" in output.lower()

    assert submit("first", *train)[0] == 0
    trains("first", beyond=0)
    places = cluster.actors()
    assert places["LearnerRank"] == {"learner"}
    assert places["RolloutWorker"] == {"rollout"}
    assert "Placement" in cluster.ray("job", "logs", "first")[1]

    code, output = submit("again", *train, f"--run_dir={tmp_path / 'other'}")
    assert code != 0
    assert "a run named 'demo' is already active in this cluster" in output
    assert not (tmp_path / "other").exists()

    code, output = submit("stop", "stop", "demo")
    assert code == 0, output
    assert "a checkpoint holds all of them" in " ".join(output.split())
    until(lambda: cluster.ended("first"), "the job has ended")
    done = updates()
    assert (run / "checkpoints" / f"v{done:06d}" / "checkpoint.json").exists()

    assert submit("resumed", "train", "--resume", f"--run_dir={run}")[0] == 0
    trains("resumed", beyond=done)
    cluster.ray("job", "stop", "resumed")
    until(lambda: not (run / "ray.json").exists(), "the run is over")
    done = updates()
    assert (run / "checkpoints" / f"v{done:06d}" / "checkpoint.json").exists()

    hasty = '--runtime-env-json={"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "0"}}'
    assert submit("killed", "train", "--resume", f"--run_dir={run}", options=[hasty])[0] == 0
    trains("killed", beyond=done)
    cluster.ray("job", "stop", "killed")
    ours = {"LearnerRank", "RolloutWorker", "RewardActor", "ControllerActor"}
    until(lambda: not ours & set(cluster.actors()), "all actors are gone")
    code, output = submit("stop-killed", "stop", "demo")
    assert code != 0
    assert "no run named 'demo' is active" in output
