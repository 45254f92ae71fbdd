"""Detects nodes that are about to be removed, and moves their workers.

Ray's autoscaler and `ray drain-node` mark a node as draining before it goes. Ray 2.60 has no public call that
lists them: this module reads the same internal state as Ray Train's PreemptionWatcher.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

import ray._private.state

from runtime.calls import DeadlineError, within

logger = logging.getLogger(__name__)

EVERY_S = 5.0
ANSWER_TIMEOUT_S = 30.0
LAST_S = 20.0
"""Time before a node's end that ending a worker may take."""


def draining_nodes() -> dict[str, int]:
    """Node ids, with the time of their end in milliseconds since the epoch; 0 if none was given."""
    return ray._private.state.state.get_draining_nodes()


def seconds_left(deadline_ms: int, now_s: float, at_most_s: float) -> float:
    """How long work on a node may still run."""
    return min(at_most_s, max(0.0, deadline_ms / 1000 - now_s - LAST_S)) if deadline_ms else at_most_s


async def watch_drains(
    workers_on: Callable[[str], list[str]],
    move: Callable[[str, float], Awaitable[None]],
    at_most_s: float,
    nodes: Callable[[], Mapping[str, int]] = draining_nodes,
    every_s: float = EVERY_S,
) -> None:
    """Poll for draining nodes until cancelled, and move the workers on them.

    Args:
        workers_on: ids of the workers on a node that are not leaving yet.
        move: starts to move a worker elsewhere; it has so many seconds to finish its work.
        at_most_s: the longest time to give a worker.
        nodes: asks which nodes are draining.
    """
    while True:
        await asyncio.sleep(every_s)
        try:
            found = await within(asyncio.to_thread(nodes), ANSWER_TIMEOUT_S, "draining nodes")
        except (DeadlineError, ray.exceptions.RayError) as error:
            logger.warning("cannot find out which nodes are draining: %s", error)
            continue
        for node, deadline_ms in found.items():
            for worker_id in workers_on(node):
                await move(worker_id, seconds_left(deadline_ms, time.time(), at_most_s))
