"""A run of sleeping workers on a Ray of several nodes, one of which is drained.

`python -m tests.draining_cluster RUN_DIR` prints who was where, as JSON. It is a program of its own because a
test session has a Ray of its own.
"""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from benchmarks.sleeping import sleeping_job, sleeping_workers
from cluster.controller import Controller
from monitoring.run_dir import RunDirectory

UPDATES = 40
CONFIGURED = [
    "--schedule.videos_per_cohort=4",
    "--schedule.completions_per_video=2",
    "--schedule.max_staleness=1",
    "--rollout.replicas=2",
    "--rollout.cpus_per_replica=2",
    "--rollout.max_completion_tokens=32",
    "--rollout.max_concurrent_sequences=8",
]


def drain(address: str, node_id: str) -> None:
    ray_command = str(Path(sys.executable).with_name("ray"))
    arguments = [
        "drain-node", f"--address={address}", f"--node-id={node_id}", "--reason=DRAIN_NODE_REASON_PREEMPTION",
        "--reason-message=a test", "--deadline-remaining-seconds=120",
    ]  # fmt: skip
    subprocess.run([ray_command, *arguments], check=True, timeout=120)


async def train(controller: Controller, address: str) -> dict[str, Any]:
    """Run, drain the node of one worker after some updates, and note who is where."""
    running = asyncio.create_task(controller.run())
    while controller.status().version < 5:
        await asyncio.sleep(0.1)
        if running.done():
            running.result()
    fleet = controller._actors.fleet
    before = {info.worker_id: info.node_id for info in fleet.infos}
    drained = before["rollout-0"]
    began = time.monotonic()
    await asyncio.to_thread(drain, address, drained)
    while "rollout-0" in fleet.healthy and not running.done():
        await asyncio.sleep(0.1)
    noticed_s = time.monotonic() - began
    after = before
    while not running.done():
        after = {info.worker_id: info.node_id for info in fleet.infos} or after  # none, when all end
        await asyncio.sleep(0.1)
    running.result()
    return {"drained": drained, "before": before, "after": after, "noticed_s": noticed_s}


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(3):  # two for the workers, and one that one of them can move to
        cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        run = RunDirectory(Path(sys.argv[1]))
        run.create("{}", "")
        job = sleeping_job(4 * UPDATES, *CONFIGURED)
        controller = Controller(job, run, False, sleeping_workers(rollout_s=0.5, update_s=1.0))
        seen = asyncio.run(train(controller, cluster.address))
        print(json.dumps(seen))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main()
