"""Finds an active run through `ray.json`, a file in its folder that exists while it runs. Importable without
ray.

When Ray is imported, RAY_AUTH_MODE decides whether it sends a token. If a run starts its own Ray, that Ray
requires a token. So a command that reaches a run reads this file first and imports Ray afterwards.
"""

import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from runtime.errors import ConfigError
from runtime.files import write_atomically

NOTE = "ray.json"
AUTH_MODE = "RAY_AUTH_MODE"
CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """A run's name, its Ray's address (None: the cluster of RAY_ADDRESS) and its Ray's authentication
    mode."""

    name: str
    address: str | None = None
    auth_mode: str | None = None

    def write(self, run_dir: Path) -> None:
        write_atomically(run_dir / NOTE, json.dumps(asdict(self)) + "\n")


def find_run(run: str) -> Whereabouts:
    """Find `run`, a run directory or a name, and set RAY_AUTH_MODE to what its Ray requires.

    Raises ConfigError if the folder has no active run, or its Ray does not answer.
    """
    folder = Path(run)
    if not (folder / "run.json").exists():
        if os.sep in run:
            raise ConfigError(f"{run} holds no run")
        return Whereabouts(run)
    try:
        found = Whereabouts(**json.loads((folder / NOTE).read_text()))
    except FileNotFoundError:
        raise ConfigError(f"{run}: no run is active there") from None
    assert found.address is not None
    host, port = found.address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ConfigError(
            f"{run}: its Ray at {found.address} does not answer ({error}). Either it was "
            f"interrupted, and `launch.py train --resume --run_dir={run}` resumes it, or it is running on "
            f"another machine and can be reached from there"
        ) from None
    if found.auth_mode is not None:
        os.environ.setdefault(AUTH_MODE, found.auth_mode)
    return found
