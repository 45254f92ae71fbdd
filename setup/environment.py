"""Create the project's environment: ``python3.11 setup/environment.py``, called by ``make setup``.

Creates ``.venv``, installs the CPU build of torch, then everything in ``setup/cpu.lock``, then the
torchvision fix (``setup/torchvision_cpu.py``), and imports the packages once. If none of its inputs has
changed since the last time, it does nothing. It uses only the standard library, because it runs before
anything is installed.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SETUP = ROOT / "setup"
LOCK = SETUP / "cpu.lock"
VENV = ROOT / ".venv"
STAMP = VENV / "set-up.stamp"
LOG = VENV / "set-up.log"

PYTORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# All packages are wheels except DeepSpeed, which is published as source; its installation compiles nothing.
PIP_INSTALL = (
    "install",
    "--no-deps",
    "--no-compile",  # `compile_all` compiles on all cores
    "--progress-bar=off",
    "--only-binary=:all:",
    "--no-binary=deepspeed",
)
# Import what a run imports, to check that the packages are compatible.
SMOKE_IMPORTS = "import torchvision, vllm, transformers, deepspeed, ray, decord, av, tensorboard"
PROGRESS_EVERY_S = 10.0
FIX = "torchvision_cpu"


class SetUpError(Exception):
    """Setup cannot continue. The message gives the fix."""


def fingerprint(python_version: str, paths: Sequence[Path]) -> str:
    """Hash everything that determines the content of the environment."""
    digest = hashlib.sha256(python_version.encode())
    for path in paths:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def pinned(lock: Path, package: str) -> str:
    """The requirement ``package==version`` in the lock file."""
    for line in lock.read_text().splitlines():
        if line.startswith(f"{package}=="):
            return line.split()[0]
    raise SetUpError(f"{lock} does not pin {package}: rebuild it with `make lock`")


def run(command: Sequence[str | Path], log: Path) -> None:
    """Run a command and write its output to `log`. Print a line of it every PROGRESS_EVERY_S.

    Raises SetUpError if the command fails.
    """
    recent: deque[str] = deque(maxlen=15)
    shown_at = time.monotonic()
    with log.open("a") as log_file:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            log_file.write(line)
            recent.append(line.rstrip())
            if time.monotonic() - shown_at > PROGRESS_EVERY_S:
                shown_at = time.monotonic()
                print(f"     {line.partition(' (from')[0].strip()[:100]}", flush=True)
        status = process.wait()
    if status != 0:
        shown = " ".join(map(str, command))
        raise SetUpError(
            f"`{shown}` failed with status {status}; its full output is in {log}:\n" + "\n".join(recent)
        )


def step(text: str) -> None:
    print(f"  -> {text}", flush=True)


def ensure_debian_package(package: str, why: str) -> None:
    """Install a Debian package if the user is root; else raise SetUpError with the command."""
    command = f"apt-get install -y --no-install-recommends {package}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SetUpError(f"{why}\nInstall it and start again: sudo {command}")
    step(f"{why} Installing {package}")
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    subprocess.run(command.split(), check=True, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})


def ensure_libnuma() -> None:
    """Install libnuma if it is missing. Without it, vLLM's CPU build fails later with only a log warning."""
    try:
        ctypes.CDLL("libnuma.so.1")
    except OSError:
        ensure_debian_package("libnuma1", "vLLM's CPU build needs libnuma.so.1, which this machine lacks.")


def make_venv() -> None:
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        ensure_debian_package(package, "This Python cannot make virtual environments.")
    step(f"virtual environment {VENV.relative_to(ROOT)} ({sys.executable})")
    subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)


def install_torch(pip: Sequence[str | Path]) -> None:
    """Install the CPU build of torch from pip's index. If that index does not have it, install it and the
    matching torchvision from PyTorch's index."""
    torch = pinned(LOCK, "torch")
    step(f"{torch} (the CPU build)")
    try:
        run([*pip, *PIP_INSTALL, torch], LOG)
    except SetUpError:
        step(f"not in pip's index: installing from {PYTORCH_CPU_INDEX}, with the matching torchvision")
        torchvision = pinned(LOCK, "torchvision") + "+cpu"
        run([*pip, *PIP_INSTALL, "--index-url", PYTORCH_CPU_INDEX, torch, torchvision], LOG)


def installed_packages(python: Path) -> Path:
    """The environment's site-packages folder."""
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.check_output([python, "-c", query], text=True).strip())


def compile_all(python: Path, site_packages: Path) -> None:
    """Byte-compile all packages once. Otherwise, if PYTHONDONTWRITEBYTECODE is set, every process recompiles.

    The exit status is ignored: wheels contain a few templates and tests that are not valid Python.
    """
    command: list[str | Path] = [python, "-m", "compileall", "-qq", "-j0", "-x", "/tests?/", site_packages]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def install_torchvision_fix(site_packages: Path) -> None:
    shutil.copy(SETUP / f"{FIX}.py", site_packages)
    (site_packages / f"{FIX}.pth").write_text(f"import {FIX}; {FIX}.install()\n")


def set_up() -> None:
    started = time.monotonic()
    if sys.version_info[:2] != (3, 11):
        raise SetUpError(
            f"Python 3.11 is needed and {sys.executable} is {sys.version.split()[0]}: "
            "`make setup PYTHON=/path/to/python3.11`"
        )
    decisive = [ROOT / "pyproject.toml", LOCK, SETUP / f"{FIX}.py", Path(__file__)]
    wanted = fingerprint(sys.version, decisive)
    if STAMP.is_file() and STAMP.read_text() == wanted:
        print(f"Environment {VENV.relative_to(ROOT)} is up to date.")
        return

    print("Setting up the environment (some 3 minutes, 1.2 GB of downloads, 4.5 GB on disk)", flush=True)
    ensure_libnuma()
    make_venv()
    python = VENV / "bin" / "python"
    pip: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check"]
    install_torch(pip)
    step(f"all other packages in {LOCK.relative_to(ROOT)}")
    run([*pip, *PIP_INSTALL, "--requirement", LOCK], LOG)
    run([*pip, "check"], LOG)
    site_packages = installed_packages(python)
    install_torchvision_fix(site_packages)
    step("byte-compiling all packages")
    compile_all(python, site_packages)
    step("importing the packages once")
    run([python, "-W", "ignore", "-c", SMOKE_IMPORTS], LOG)
    STAMP.write_text(wanted)
    print(f"Environment ready after {time.monotonic() - started:.0f} s.")


if __name__ == "__main__":
    try:
        set_up()
    except (SetUpError, subprocess.CalledProcessError, OSError) as error:
        sys.exit(f"Set-up failed: {error}")
