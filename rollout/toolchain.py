"""Checks for the C compiler that an engine on a GPU needs at run time. Importable without vllm."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from data.errors import PermanentError


class NoCompilerError(PermanentError):
    """Triton cannot compile on this machine."""


def check_compiler(
    include: Path | None = None, which: Callable[[str], str | None] = shutil.which, cc: str | None = None
) -> None:
    """Raise NoCompilerError unless a C compiler and the headers of this Python are found.

    Triton compiles a file that includes Python.h for its first kernel, minutes after the start; without this
    check a missing compiler or header would fail only then. Like Triton, this looks for the compiler in the
    environment variable `CC`, or else for gcc or clang.
    """
    include = include or Path(sysconfig.get_path("include"))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    compiler = cc or os.environ.get("CC")
    if not any(which(name) for name in ([compiler] if compiler else ["gcc", "clang"])):
        wanted = f"CC names {compiler}, which is" if compiler else "gcc and clang are"
        raise NoCompilerError(f"{wanted} not installed, and Triton needs a C compiler: `apt-get install g++`")
    if not (include / "Python.h").is_file():
        raise NoCompilerError(
            f"{include} holds no Python.h, and Triton needs it: `apt-get install python{version}-dev`"
        )
