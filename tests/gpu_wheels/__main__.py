"""Makes the environment of setup/gpu.lock (7 minutes, 10 GB), then runs the checks in it.

    python3.11 -m tests.gpu_wheels --venv .venv-gpu

Standard library only. The stub of the driver's library needs a C compiler.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from setup.environment import ROOT, SetUpError, fingerprint, pinned, run, step

LOCK = ROOT / "setup" / "gpu.lock"
HERE = Path(__file__).resolve().parent
STAMP, LOG, STUB = "gpu.stamp", "gpu.log", "stub"
CHECKS_TIMEOUT_S = 1800


def make_environment(venv: Path) -> None:
    """Install what the lock lists, unless it is there.

    torch is asked for with `===`: of two builds of one version pip prefers the one that says "+cpu", if a
    setting such as find-links offers it.
    """
    wanted = fingerprint(sys.version, [LOCK])
    if (venv / STAMP).is_file() and (venv / STAMP).read_text() == wanted:
        step(f"{venv} holds the packages of {LOCK.relative_to(ROOT)}")
        return
    if sys.version_info[:2] != (3, 11):
        raise SetUpError(f"Python 3.11 is needed, and {sys.executable} is {sys.version.split()[0]}")
    step(f"virtual environment {venv}")
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip: list[str | Path] = [venv / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    install = ["install", "--no-deps", "--no-compile", "--progress-bar=off"]
    torch = pinned(LOCK, "torch").replace("==", "===")
    rest = venv / "gpu-without-torch.lock"
    lines = LOCK.read_text().splitlines(keepends=True)
    rest.write_text("".join(line for line in lines if not line.startswith("torch==")))
    step(f"{torch}, and all else that {LOCK.relative_to(ROOT)} lists")
    run([*pip, *install, torch], venv / LOG)
    run([*pip, *install, "--requirement", rest], venv / LOG)
    (venv / STAMP).write_text(wanted)


def make_stub(venv: Path) -> Path:
    """The folder of a libcuda.so.1 that finds no device."""
    folder = venv / STUB
    folder.mkdir(exist_ok=True)
    run(["cc", "-shared", "-o", folder / "libcuda.so.1", HERE / "libcuda.c"], venv / LOG)
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-gpu", help="where to install")
    venv = parser.parse_args().venv.absolute()
    make_environment(venv)
    stub = make_stub(venv)
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, [str(stub), os.environ.get("LD_LIBRARY_PATH")])),
        "PYTHONPATH": str(ROOT),
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
    }
    step("checks on a pretended H100")
    command = [venv / "bin" / "python", "-W", "ignore", "-m", "tests.gpu_wheels.checks"]
    return subprocess.run(
        command, cwd=ROOT, env=environment, timeout=CHECKS_TIMEOUT_S, check=False
    ).returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (SetUpError, subprocess.CalledProcessError, subprocess.TimeoutExpired, OSError) as error:
        sys.exit(f"The GPU packages could not be examined: {error}")
