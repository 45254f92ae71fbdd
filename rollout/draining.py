"""Detects nodes that are about to be removed, and moves their workers to other nodes.

Ray's autoscaler and `ray drain-node` mark a node as draining before they remove it. Ray 2.60 has no public
call that lists draining nodes. This module reads the same internal state as Ray Train's PreemptionWatcher.
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
"""Seconds reserved for stopping a worker before its node is removed."""


def draining_nodes() -> dict[str, int]:
    """Return the ids of draining nodes, each with the time of its removal in milliseconds since the epoch.

    The time is 0 if none was given.
    """
    return ray._private.state.state.get_draining_nodes()


def seconds_left(deadline_ms: int, now_s: float, at_most_s: float) -> float:
    """Return how many seconds the requests on a draining node may continue."""
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
        workers_on: returns the ids of the workers on a node, without those that are leaving already.
        move: takes a worker's id and the seconds in which it must finish its requests; starts to move it.
        at_most_s: maximum of the seconds passed to `move`.
        nodes: returns the draining nodes, as `draining_nodes` does.
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
