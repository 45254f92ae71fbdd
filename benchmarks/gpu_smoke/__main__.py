"""What works on this GPU, and what it costs; PASS, FAIL or SKIP with a figure on each line.

    python -m benchmarks.gpu_smoke --json smoke.json
    python -m benchmarks.gpu_smoke --device cpu --tiny      executes every step; its figures mean nothing

Needs torch, torchvision, transformers, DeepSpeed, peft, accelerate, pydantic-settings and scipy; the engine's
steps need vLLM, and are skipped without it. Models are random and made here: nothing is downloaded. A failure
does not end the run, and the exit status is 1 if there was one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.gpu_smoke.report import Line, summary
from benchmarks.gpu_smoke.runner import run_steps
from benchmarks.gpu_smoke.sizes import Setting
from benchmarks.gpu_smoke.steps import ALL
from benchmarks.machine import describe_machine

DEADLINE_S = 580.0
DISK_GB = 12.0
"""What the models and checkpoints take in the folder for temporary files."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes that execute the code and measure nothing")
    parser.add_argument(
        "--only", nargs="+", choices=[step.name for step in ALL], metavar="STEP", help="these steps alone"
    )
    parser.add_argument("--deadline", type=float, default=DEADLINE_S, help="seconds for all steps together")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    if problem := _problem(arguments):
        parser.error(problem)
    started_s = time.monotonic()
    machine = describe_machine()
    print(f"{machine['gpu'] or machine['processor']}; {machine['versions']}")
    if arguments.tiny:
        print("Tiny sizes: PASS and FAIL are of the code, and every figure is meaningless.")
    steps = [step for step in ALL if not arguments.only or step.name in arguments.only]
    lines: list[Line] = []
    found = []
    with tempfile.TemporaryDirectory(prefix="gpu-smoke-") as folder:
        setting = Setting(arguments.device, arguments.tiny, Path(folder))
        for step, line in run_steps(steps, setting, arguments.deadline):
            print(f"{line}  [{time.monotonic() - started_s:.0f} s]", flush=True)
            lines.append(line)
            found.append({"step": step.name, **asdict(line)})
    seconds = time.monotonic() - started_s
    print(f"{summary(lines)}, in {seconds:.0f} s")
    if arguments.json:
        report = {"machine": machine, "device": arguments.device, "tiny": arguments.tiny}
        arguments.json.write_text(json.dumps(report | {"seconds": seconds, "lines": found}, indent=2) + "\n")
    sys.exit(any(line.status == "FAIL" for line in lines))


def _problem(arguments: argparse.Namespace) -> str | None:
    import shutil

    import torch

    if arguments.device == "cpu" and not arguments.tiny:
        return "--device cpu needs --tiny: the other sizes are a GPU's"
    if arguments.device == "cuda" and not torch.cuda.is_available():
        build = f"torch {torch.__version__} is built for CUDA {torch.version.cuda}"
        return f"torch sees no CUDA device ({build}); --device cpu --tiny executes the steps without one"
    free_gb = shutil.disk_usage(tempfile.gettempdir()).free / 1e9
    if not arguments.tiny and free_gb < DISK_GB:
        return f"{tempfile.gettempdir()} has {free_gb:.0f} GB free, and {DISK_GB:.0f} are needed: set TMPDIR"
    return None


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
