"""Where a run is going on: `ray.json` in its folder, for as long as it does. Importable without ray.

Ray decides when it is imported whether to show a token, by RAY_AUTH_MODE; a Ray that a run starts
by itself wants one. So a command that wants to reach a run reads this note first, and imports Ray afterwards.
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
    """A run's name, and its Ray: the address (None: the cluster of RAY_ADDRESS) and its authentication."""

    name: str
    address: str | None = None
    auth_mode: str | None = None

    def write(self, run_dir: Path) -> None:
        write_atomically(run_dir / NOTE, json.dumps(asdict(self)) + "\n")


def find_run(run: str) -> Whereabouts:
    """Where `run`, a run directory or a name, is going on; sets RAY_AUTH_MODE as its Ray wants it.

    Raises ConfigError if the folder holds no run that is going on, or its Ray does not answer.
    """
    folder = Path(run)
    if not (folder / "run.json").exists():
        if os.sep in run:
            raise ConfigError(f"{run} holds no run")
        return Whereabouts(run)
    try:
        found = Whereabouts(**json.loads((folder / NOTE).read_text()))
    except FileNotFoundError:
        raise ConfigError(f"{run}: no run is going on there") from None
    assert found.address is not None
    host, port = found.address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ConfigError(
            f"{run}: its Ray at {found.address} does not answer ({error}). The run was cut off, and "
            f"`launch.py train --resume --run_dir={run}` goes on with it; or it goes on on another machine, "
            f"where it can be stopped"
        ) from None
    if found.auth_mode is not None:
        os.environ.setdefault(AUTH_MODE, found.auth_mode)
    return found
