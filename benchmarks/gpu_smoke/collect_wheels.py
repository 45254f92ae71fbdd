"""Collect, as wheels, what the learner's half of the smoke program needs beside torch.

    python -m benchmarks.gpu_smoke.collect_wheels --python 3.12 --out wheels

For a GPU machine that reaches no package registry, and has torch and a torchvision that fits it. There:

    python3 -m pip install --no-index --no-deps --target site wheels/*.whl
    PYTHONPATH=site:. python3 -m benchmarks.gpu_smoke

Versions are those of setup/gpu.lock. With `--have`, the output of `pip freeze` there, what that machine has
is left out, whatever its version, but for the libraries that the learner is written against. Run this with a
Python that has torch and setuptools: DeepSpeed is built from source, without its compiled operators.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent.parent / "setup" / "gpu.lock"
NEEDED = (
    "accelerate",
    "deepspeed",
    "numpy",
    "peft",
    "pillow",
    "pydantic-settings",
    "safetensors",
    "scipy",
    "transformers",
)
ALWAYS = ("deepspeed", "peft", "transformers")
THERE = ("torch", "torchvision")
SOURCE_ONLY = "deepspeed"
PLATFORMS = (
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
)


def read_lock(text: str) -> tuple[dict[str, str], dict[str, set[str]]]:
    """(version of each package, packages that each one needs) of a lock file with uv's "via" comments."""
    versions: dict[str, str] = {}
    needs: dict[str, set[str]] = {}
    package = ""
    for line in text.splitlines():
        if pinned := re.match(r"([a-z0-9-]+)==(\S+)", line):
            package, versions[pinned[1]] = pinned[1], pinned[2]
        elif package and (via := re.match(r"\s+#\s+(?:via )?([a-z0-9-]+)", line)) and via[1] != "via":
            needs.setdefault(via[1], set()).add(package)
    return versions, needs


def closure(roots: Iterable[str], needs: Mapping[str, set[str]], without: Iterable[str]) -> list[str]:
    """`roots` and all that they need, leaving out `without` and what only they need; sorted."""
    found: set[str] = set()
    left = list(roots)
    while left:
        package = left.pop()
        if package not in found and package not in without:
            found.add(package)
            left += needs.get(package, ())
    return sorted(found)


def names_in(freeze: str) -> set[str]:
    """Packages that the output of `pip freeze` lists."""
    lines = re.findall(r"^([A-Za-z0-9._-]+)\s*(?:==|@)", freeze, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in lines}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", default="3.12", help="version of Python on the GPU machine")
    parser.add_argument("--out", type=Path, default=Path("wheels"), help="folder for the wheels")
    parser.add_argument("--have", type=Path, help="file with the output of `pip freeze` on the GPU machine")
    arguments = parser.parse_args()
    versions, needs = read_lock(LOCK.read_text())
    have = names_in(arguments.have.read_text()) - set(ALWAYS) if arguments.have else set()
    packages = [name for name in closure(NEEDED, needs, THERE) if name not in have]
    arguments.out.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    download = [*pip, "download", "--no-deps", "--quiet", "--only-binary", ":all:", "--implementation", "cp"]
    download += ["--python-version", arguments.python, "--dest", str(arguments.out)]
    download += [option for platform in PLATFORMS for option in ("--platform", platform)]
    download += [f"{name}=={versions[name]}" for name in packages if name != SOURCE_ONLY]
    subprocess.run(download, check=True)
    build = [*pip, "wheel", "--no-deps", "--quiet", "--no-build-isolation", "--wheel-dir", str(arguments.out)]
    build += [f"{SOURCE_ONLY}=={versions[SOURCE_ONLY]}"]
    subprocess.run(build, env=os.environ | {"DS_BUILD_OPS": "0"}, check=True)
    files = sorted(arguments.out.glob("*.whl"))
    total_mb = sum(file.stat().st_size for file in files) / 1e6
    print(f"{len(files)} wheels, {total_mb:.0f} MB, in {arguments.out}")


if __name__ == "__main__":
    main()
