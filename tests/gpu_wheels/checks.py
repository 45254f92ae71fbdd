"""The checks, run by the Python of the GPU environment; exit status 1 if one fails."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path

from benchmarks.gpu_smoke.report import Line, check, summary
from setup.environment import ROOT
from tests.families.checkpoints import Family
from tests.gpu_wheels.calls import imported_calls, method_calls, methods_of, refusal, remote_calls

ROOMS = ("cli", "cluster", "data", "evaluation", "learner", "monitoring", "rewards", "rollout", "runtime")
"""Packages of the project that a run imports."""
ASYNC_ENGINE = {"self._engine": "AsyncLLM", "AsyncLLM": "AsyncLLM"}
WORKER = "vllm.v1.worker.gpu_worker"
NCCL_LINES = (
    b"Using network %s",
    b"Channel %02d/%d : %d[%d] -> %d[%d] [send] via NET/%s/%d",
    b"Channel %02d/%d : %d[%d] -> %d[%d] [receive] via NET/%s/%d",
    b"Channel %02d/%01d : %d[%d] -> %d[%d] via P2P/IPC",
    b"Channel %02d : %d[%d] -> %d[%d] via SHM/%s/%s",
    b"CollNet %02d/%1d : %d [send] via COLLNET/%s/%d",
)


def build() -> Iterator[Line]:
    import torch

    cuda = torch.version.cuda
    version = torch.__version__.partition("+")[0]
    cure = (
        ": pip chose a build for the CPU, which a setting such as find-links offers it (`pip config list`); "
        f"take the other with: {sys.executable} -m pip install --no-deps 'torch==={version}'"
    )
    yield check(cuda is not None, "torch", f"{torch.__version__}, CUDA {cuda}" + ("" if cuda else cure))
    done = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True, timeout=300, check=False
    )
    yield check(done.returncode == 0, "pip check", " ".join(done.stdout.split()))
    import vllm

    yield check(find_spec("vllm") is not None, "vLLM", f"{vllm.__version__} at {Path(vllm.__file__).parent}")


def imports() -> Iterator[Line]:
    modules = [
        module.name
        for room in ROOMS
        for module in pkgutil.walk_packages([str(ROOT / room)], f"{room}.")
        if not module.name.endswith("__main__")
    ]
    failed = []
    for name in [*modules, "launch"]:
        try:
            importlib.import_module(name)
        except Exception as error:
            failed.append(f"{name} ({type(error).__name__}: {error})")
    yield check(not failed, "modules", f"{len(modules) + 1} import" + "".join(f"; not {f}" for f in failed))


def presets() -> Iterator[Line]:
    """What each preset for GPUs resolves to, alone and with what changes the executor or the kernels."""
    from cluster.config import load_config

    for preset in sorted((ROOT / "configs").glob("*.toml")):
        if load_config(preset).rollout.gpus_per_replica == 0:
            continue
        variants: list[list[str]] = [[]]
        if load_config(preset).rollout.gpus_per_replica == 1:
            variants += [["--rollout.gpus_per_replica=2"], ["--rollout.exact=true"]]
        for overrides in variants:
            name = " ".join([preset.stem, *overrides])
            try:
                yield from _resolved(name, preset, overrides)
            except Exception as error:
                yield check(False, name, f"{type(error).__name__}: {' '.join(str(error).split())[:400]}")


def _resolved(name: str, preset: Path, overrides: list[str]) -> Iterator[Line]:
    import torch
    from transformers import AutoProcessor
    from vllm import AsyncEngineArgs

    from cluster.config import load_config
    from cluster.planning.adapters import adapter_serving
    from cluster.planning.architecture import known_architecture
    from rollout.engine_arguments import EngineSettings, engine_arguments
    from rollout.environment import engine_environment, executor
    from tests.families.checkpoints import make_family

    config = load_config(preset, overrides)
    masked = [1, 2, 3]
    before = dict(os.environ)
    try:
        os.environ.update(engine_environment(config.rollout, True))
        with tempfile.TemporaryDirectory(prefix="gpu-wheels-") as folder:
            model = make_family(family_of(config.model.path), Path(folder))
            settings = EngineSettings(
                str(model),
                config.data.frames_per_video,
                config.rollout,
                config.seed,
                frame_tokens=config.data.frame_tokens,
                adapters=adapter_serving(config, known_architecture(config.model.path)),
            )
            options = settings.frame_tokens.image_options(AutoProcessor.from_pretrained(model))
            arguments = engine_arguments(settings, masked, options)
            made = AsyncEngineArgs(**arguments).create_engine_config()
    finally:
        os.environ.clear()
        os.environ.update(before)
    runner = "V2" if made.use_v2_model_runner else "V1"
    found = made.parallel_config.distributed_executor_backend
    tokens = made.scheduler_config.max_num_batched_tokens
    expected = executor(config.rollout) or "uni"
    yield check(
        made.model_config.dtype == torch.bfloat16 and found == expected,
        name,
        f"runner {runner}, executor {found}, {str(made.model_config.dtype).removeprefix('torch.')}, "
        f"asynchronous {made.scheduler_config.async_scheduling}, graphs "
        f"{made.compilation_config.cudagraph_mode.name}, prefix cache "
        f"{made.cache_config.enable_prefix_caching}, {tokens} tokens a step",
    )
    yield _processor(name, made, masked)


def family_of(hub_name: str) -> Family:
    """The family under test with the most similar name: InternVL3-2B is small like InternVL3-8B."""
    from tests.families.catalogue import FAMILIES

    def likeness(family: Family) -> int:
        """Characters that both names begin with."""
        return sum(
            1
            for _ in takewhile(lambda pair: pair[0] == pair[1], zip(family.hub_name, hub_name, strict=False))
        )

    return max(FAMILIES.values(), key=likeness)


def _processor(name: str, made: object, masked: list[int]) -> Line:
    """Our logits processor, loaded as the runner in use loads it, and applied."""
    from types import SimpleNamespace
    from typing import Any

    import torch

    config: Any = made
    names = config.model_config.logits_processors
    device = torch.device("cpu")
    logits = torch.zeros(2, 8)
    if config.use_v2_model_runner:
        from vllm.v1.worker.gpu.sample.logits_processor import build_custom_logits_processors

        fields = ("all_token_ids", "prompt_len", "prefill_len", "total_len")
        state: Any = SimpleNamespace(device=device, max_num_reqs=2, vocab_size=8, **dict.fromkeys(fields))
        made_processors: list[Any] = build_custom_logits_processors(config, state, False, names)
        for processor in made_processors:
            logits = processor.apply(logits, None)
    else:
        from vllm.v1.sample.logits_processor import build_logitsprocs

        made_processors = list(build_logitsprocs(config, device, False, False, names).non_argmax_invariant)
        for processor in made_processors:
            logits = processor.apply(logits)
    barred = torch.isinf(logits).all(0).nonzero().flatten().tolist()
    return check(
        barred == masked,
        f"{name}: logits processor",
        f"{', '.join(map(str, names))} accepted, masks {barred} of {masked}",
    )


def imported_names() -> Iterator[Line]:
    """Every call of something imported from vLLM exists and takes the arguments that are passed."""
    wrong, count = [], 0
    for file in _sources():
        for call in imported_calls(file.read_text(), "vllm"):
            count += 1
            target, _, attribute = call.name.partition(":")
            try:
                found = _attribute(importlib.import_module(target), attribute)
                problem = refusal(inspect.signature(found), call)
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            if problem:
                wrong.append(f"{file.relative_to(ROOT)}:{call.line} {attribute}: {problem}")
    yield check(count > 0 and not wrong, "calls into vLLM", _found(count, wrong))


def engine_methods() -> Iterator[Line]:
    """Every method that is called on AsyncLLM."""
    from vllm.v1.engine.async_llm import AsyncLLM

    file = ROOT / "rollout" / "engine_async.py"
    calls = method_calls(file.read_text(), ASYNC_ENGINE)
    wrong = []
    for call in calls:
        method = call.name.partition(".")[2]
        if not hasattr(AsyncLLM, method):
            wrong.append(f"line {call.line}: AsyncLLM has no {method}")
            continue
        bound = not isinstance(inspect.getattr_static(AsyncLLM, method), classmethod)
        if problem := refusal(inspect.signature(getattr(AsyncLLM, method)), call, bound):
            wrong.append(f"line {call.line}: {method}: {problem}")
    names = ", ".join(sorted({call.name.partition(".")[2] for call in calls}))
    yield check(len(calls) > 5 and not wrong, f"methods of AsyncLLM ({names})", _found(len(calls), wrong))


def worker_methods() -> Iterator[Line]:
    """Every method that is called on vLLM's workers is theirs or our extension's, and no name is both's."""
    from vllm.v1.worker.worker_base import WorkerBase

    from rollout.weight_loading import WeightLoading

    spec = find_spec(WORKER)
    assert spec is not None
    assert spec.origin is not None
    # Read and not imported: importing it asks the driver.
    theirs = methods_of(Path(spec.origin).read_text(), "Worker")
    ours = {name for name in vars(WeightLoading) if not name.startswith("__")}
    calls = [call for file in _sources() for call in remote_calls(file.read_text(), "self._rpc")]
    wrong = []
    for call in calls:
        if call.name in ours:
            problem = refusal(inspect.signature(getattr(WeightLoading, call.name)), call, bound=True)
        elif call.name in theirs:
            problem = refusal(theirs[call.name], call)
        else:
            problem = "neither vLLM's worker nor our extension has it"
        if problem:
            wrong.append(f"{call.name}: {problem}")
    names = ", ".join(sorted({call.name for call in calls}))
    yield check(len(calls) > 5 and not wrong, f"methods of workers ({names})", _found(len(calls), wrong))
    both = sorted(ours & (theirs.keys() | set(dir(WorkerBase))))
    yield check(not both, "names of our worker extension", f"{len(ours)}, of which vLLM's worker has {both}")


def transfer() -> Iterator[Line]:
    """The dictionaries that open a transfer group and announce weights are what vLLM's dataclasses take."""
    from vllm.distributed.weight_transfer.nccl_engine import (
        NCCLWeightTransferInitInfo,
        NCCLWeightTransferUpdateInfo,
    )

    from tests.gpu_wheels.transfer import recorded_infos

    joining, sending = recorded_infos()
    for what, made, info in (
        ("joining", NCCLWeightTransferInitInfo, joining),
        ("receiving", NCCLWeightTransferUpdateInfo, sending),
    ):
        try:
            made(**info)
            yield check(True, f"weight transfer, {what}", f"{made.__name__}({', '.join(info)})")
        except Exception as error:
            yield check(False, f"weight transfer, {what}", f"{type(error).__name__}: {error}")


def nccl_log() -> Iterator[Line]:
    """The lines that `cluster.nccl_log` reads are those that the locked NCCL writes."""
    spec = find_spec("nvidia.nccl")
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    libraries = [path for folder in folders for path in Path(folder).glob("lib/libnccl.so.2")]
    content = b"".join(path.read_bytes() for path in libraries)
    missing = [line.decode() for line in NCCL_LINES if line not in content]
    found = (
        f"{len(NCCL_LINES) - len(missing)} of {len(NCCL_LINES)} formats in {', '.join(map(str, libraries))}"
    )
    yield check(not missing, "NCCL's log", found + "".join(f"; not {line}" for line in missing))


def _sources() -> list[Path]:
    return [file for room in ("learner", "rollout") for file in sorted((ROOT / room).rglob("*.py"))]


def _attribute(module: object, dotted: str) -> Callable[..., object]:
    found: object = module
    for name in dotted.split("."):
        found = getattr(found, name)
    assert callable(found)
    return found


def _found(count: int, wrong: list[str]) -> str:
    return f"{count} calls, {len(wrong)} refused" + "".join(f"; {w}" for w in wrong)


CHECKS = (build, imports, presets, imported_names, engine_methods, worker_methods, transfer, nccl_log)


def main() -> int:
    from transformers.utils import logging as transformers_logging

    import tests.gpu_wheels.pretended_h100  # noqa: F401  (before anything else of vLLM)

    transformers_logging.disable_progress_bar()

    lines: list[Line] = []
    for run in CHECKS:
        try:
            for line in run():
                print(line, flush=True)
                lines.append(line)
        except Exception as error:
            traceback.print_exc()
            lines.append(check(False, run.__name__, f"{type(error).__name__}: {error}"))
            print(lines[-1], flush=True)
    print(summary(lines))
    return int(any(line.status == "FAIL" for line in lines))


if __name__ == "__main__":
    sys.exit(main())
