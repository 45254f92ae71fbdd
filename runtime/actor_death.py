"""How the end of an actor shows: what Ray raises for a call of it, and that its process is gone.

RayActorError is not all: of an actor that was killed for want of memory, or with its machine, the reason
itself is raised.
"""

import time
from pathlib import Path

import ray

ACTOR_IS_GONE = (
    ray.exceptions.RayActorError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.LocalRayletDiedError,
)

POLL_S = 0.1


def processes_left(pids: list[int], timeout_s: float) -> list[int]:
    """Wait until processes of this machine have ended; returns those that have not after `timeout_s`.

    Ray calls an actor dead as soon as it is to be killed; its memory is free when its process has ended.
    """
    deadline_s = time.monotonic() + timeout_s
    while (left := [pid for pid in pids if _runs(pid)]) and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
    return left


def _runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"  # a zombie holds nothing
