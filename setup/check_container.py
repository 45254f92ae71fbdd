"""Check the GPU image from inside, on a machine without a GPU:

    docker run --rm --network none -v "$PWD/setup/check_container.py:/check.py:ro" vqathinker-ray \\
        python /check.py ray status

The arguments are the command of the image's health check. `make check-image` builds an image and runs this
file in it. Every check prints a line; the first failure ends the program with status 1.
"""

import ast
import ctypes
import importlib
import importlib.metadata
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

PROJECT = Path("/app")
OPTIONAL = ("vmaf_torch", "wandb")  # packages of extras, which the image does not install
RAY_PROCESSES = {"raylet", "gcs_server"}
C_EXTENSION = """
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "probe", 0, -1, 0};
PyMODINIT_FUNC PyInit_probe(void) { return PyModule_Create(&module); }
"""


class CheckFailedError(Exception):
    """A check of the image failed. The message says why."""


def passed(text: str) -> None:
    print(f"PASS {text}", flush=True)


def run(*command: str | Path, timeout_s: float = 300) -> str:
    """Run a command; returns its output. If it fails, raises CheckFailedError with the output."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout_s, check=False
    )
    if done.returncode != 0:
        raise CheckFailedError(f"`{' '.join(map(str, command))}`: status {done.returncode}\n{done.stdout}")
    return done.stdout.strip()


def check_user() -> None:
    """Check that the user is not root, can write to runs/, and has Ray in the PATH of a login shell."""
    if os.geteuid() == 0:
        raise CheckFailedError("the image runs as root")
    (PROJECT / "runs" / "probe").touch()
    (PROJECT / "runs" / "probe").unlink()
    ray = run("bash", "-l", "-c", "command -v ray")
    passed(f"user {os.geteuid()} writes to {PROJECT / 'runs'}; a login shell finds {ray}")


def check_packages() -> None:
    """Check that the installed packages are consistent, and torch is a CUDA build."""
    run(sys.executable, "-m", "pip", "check")
    import torch

    if torch.version.cuda is None:
        raise CheckFailedError(f"torch {torch.__version__} is a CPU build")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "vllm", "ray"))
    passed(f"pip check; Python {sys.version.split()[0]}, CUDA {torch.version.cuda}, {versions}")


def check_compiler() -> None:
    """Compile a module against Python.h and load it, as Triton does for each kernel."""
    with tempfile.TemporaryDirectory() as folder:
        source, built = Path(folder, "probe.c"), Path(folder, "probe.so")
        source.write_text(C_EXTENSION)
        include = sysconfig.get_path("include")
        run("gcc", "-shared", "-fPIC", f"-I{include}", source, "-o", built)
        run("g++", "-x", "c++", "-fsyntax-only", f"-I{include}", source)
        sys.path.insert(0, folder)
        importlib.import_module("probe")
    passed(f"gcc and g++ compile against {include}/Python.h")


def check_libraries() -> None:
    """Load the libraries that vLLM and NCCL open by name at run time. Neither reports an error if one is
    missing."""
    for name in ("libnuma.so.1", "libibverbs.so.1", "libmlx5.so.1"):
        ctypes.CDLL(name)
    nccl = Path(sysconfig.get_path("purelib"), "nvidia", "nccl", "lib", "libnccl.so.2")
    version = ctypes.c_int()
    ctypes.CDLL(str(nccl)).ncclGetVersion(ctypes.byref(version))
    providers = list(Path("/etc/libibverbs.d").glob("*.driver"))
    if not providers:
        raise CheckFailedError("libibverbs has no providers (ibverbs-providers)")
    passed(
        f"libnuma, libibverbs with {len(providers)} providers, libmlx5; NCCL {version.value} for CUDA loads"
    )


def project_modules() -> list[str]:
    """The import names of all modules of the project in the image."""
    rooms = [folder for folder in PROJECT.iterdir() if folder.is_dir()]
    files = [PROJECT / "launch.py", *(file for room in rooms for file in room.rglob("*.py"))]
    names = [file.relative_to(PROJECT).with_suffix("").parts for file in files]
    return sorted(".".join(n[:-1] if n[-1] == "__init__" else n) for n in names if n[-1] != "__main__")


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Yield the full names of the modules that a file imports, at the top or inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def check_imports() -> None:
    """Import all modules of the project, and all modules that they import, including inside functions."""
    sys.path.insert(0, str(PROJECT))
    modules = project_modules()
    for module in modules:
        importlib.import_module(module)
    wanted: set[str] = set()
    for module in modules:
        file = sys.modules[module].__file__
        if file:
            wanted.update(imported_names(ast.parse(Path(file).read_text())))
    wanted = {name for name in wanted if name.split(".")[0] not in OPTIONAL}
    for name in sorted(wanted):
        importlib.import_module(name)
    passed(f"{len(modules)} modules of the project import, and {len(wanted)} that they name")


def check_ray(health_check: Sequence[str]) -> None:
    """Check that this user can start a head node, and that the health check detects whether it runs."""
    if RAY_PROCESSES & set(running()):
        raise CheckFailedError("another Ray is running in this process namespace, which `ray stop` would end")

    def healthy() -> bool:
        return subprocess.run(health_check, capture_output=True, timeout=60, check=False).returncode == 0

    if healthy():
        raise CheckFailedError("the health check passes before Ray runs")
    started = time.monotonic()
    run("ray", "start", "--head", "--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats")
    if not healthy():
        raise CheckFailedError("the health check fails while Ray runs")
    took_s = time.monotonic() - started
    run("ray", "stop", "--force")
    if healthy():
        raise CheckFailedError("the health check passes after Ray was stopped")
    passed(f"`{' '.join(health_check)}` fails without Ray and passes {took_s:.0f} s after `ray start --head`")


def running() -> Iterator[str]:
    """The names of all processes in this process namespace."""
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            yield comm.read_text().strip()
        except OSError:
            continue  # the process has ended


def main(health_check: Sequence[str]) -> None:
    check_user()
    check_packages()
    check_compiler()
    check_libraries()
    check_ray(health_check)
    check_imports()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (CheckFailedError, ImportError, OSError) as error:
        sys.exit(f"FAIL {error}")
