"""Reads from NCCL's logs, one per process, which transports it chose.

NCCL falls back to TCP without a warning. At level INFO its log has a line `Using network NAME` per
communicator. Per connection it has a line such as `Channel 00/0 : 0[0] -> 1[0] [send] via NET/Socket/0`,
or the same with `via P2P/IPC` or `via SHM/direct/direct` (NCCL 2.29). NET connects GPUs of
different nodes, or GPUs of one node that cannot reach each other in another way.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import ConfigError

_TCP = "NET/Socket"
_NETWORK = re.compile(rb"NCCL INFO Using network (.+)")
_CONNECTION = re.compile(rb"NCCL INFO (?:Channel|CollNet) .*\] via (P2P|SHM|NET/[^/\s(]+|COLLNET/[^/\s(]+)")


@dataclass(frozen=True, slots=True)
class NcclTransport:
    """The transports of one process. `networks` are the names of the networks that its communicators use.
    `connections` is the number of connections by kind: P2P, SHM, NET/IB, NET/Socket, or NET/ and a plug-in's
    name."""

    process: str
    networks: tuple[str, ...]
    connections: dict[str, int]

    @property
    def uses_tcp(self) -> bool:
        return _TCP in self.connections


def nccl_log_environment(folder: Path) -> dict[str, str]:
    """Return environment variables that make NCCL write `folder`/HOST-PID.log. The folder must exist."""
    if "%" in str(folder):
        raise ConfigError(
            f"run_dir {folder}: NCCL replaces % in the path of its log: choose a path without it"
        )
    return {
        "NCCL_DEBUG": "INFO",
        "NCCL_DEBUG_SUBSYS": "INIT,NET,P2P,SHM",
        "NCCL_DEBUG_FILE": f"{folder}/%h-%p.log",
    }


def start_nccl_logs(folder: Path) -> dict[str, str]:
    """Prepare `folder` for new logs, and return environment variables for the processes that write them.

    Logs of an earlier start are deleted. If this process's environment has a variable NCCL_DEBUG*, the user's
    settings apply and the result is empty.
    """
    if any(name.startswith("NCCL_DEBUG") for name in os.environ):
        return {}
    environment = nccl_log_environment(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for log in folder.glob("*.log"):
        log.unlink()
    return environment


def read_nccl_logs(folder: Path) -> list[NcclTransport]:
    """Read the transports of each process that used NCCL. A log without a communicator is skipped."""
    found = [_transport(path) for path in sorted(folder.glob("*.log"))]
    return [transport for transport in found if transport.networks or transport.connections]


def _transport(path: Path) -> NcclTransport:
    log = path.read_bytes()
    networks = tuple(sorted({name.decode(errors="replace").strip() for name in _NETWORK.findall(log)}))
    connections = Counter(kind.decode(errors="replace") for kind in _CONNECTION.findall(log))
    return NcclTransport(path.stem, networks, dict(sorted(connections.items())))


def describe(transports: Sequence[NcclTransport]) -> str:
    """Return one line with the number of processes and their connections by kind."""
    total: Counter[str] = Counter()
    for transport in transports:
        total.update(transport.connections)
    networks = sorted({name for transport in transports for name in transport.networks})
    kinds = ", ".join(f"{count} by {kind}" for kind, count in sorted(total.items())) or "none open"
    network = ", ".join(networks) or "unknown"
    return f"NCCL in {len(transports)} processes: network {network}; connections: {kinds}"


def tcp_warning(transports: Sequence[NcclTransport]) -> str | None:
    """Return a warning if NCCL sends over TCP, else None."""
    slow = [transport.process for transport in transports if transport.uses_tcp]
    if not slow:
        return None
    named = ", ".join(slow[:4]) + (", ..." if len(slow) > 4 else "")
    return (
        f"NCCL sends over TCP in {len(slow)} of {len(transports)} processes ({named}), which is slower than "
        "RDMA. See `Networks between nodes` in docs/cluster.md, and the logs in nccl/ of the run directory"
    )
