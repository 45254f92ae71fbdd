"""Where to reach an active run: `ray.json` in its folder, as long as it runs. Importable without ray.

Ray decides when it is imported whether to send a token, by RAY_AUTH_MODE; a Ray that a run starts by itself
requires one. So a command that reaches a run reads this note first, and imports Ray afterwards.
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
    """Where to reach `run`, a run directory or a name; sets RAY_AUTH_MODE as its Ray requires.

    Raises ConfigError if the folder holds no active run, or its Ray does not answer.
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
