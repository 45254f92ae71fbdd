"""What `make test-gpu-wheels` reads out of sources, on sources made for it."""

import inspect
from pathlib import Path

import pytest

from cluster.config import load_config
from tests.gpu_wheels.calls import Call, imported_calls, method_calls, methods_of, refusal, remote_calls
from tests.gpu_wheels.checks import family_of

ROOT = Path(__file__).resolve().parent.parent.parent

SOURCE = """
from vllm import EngineArgs, SamplingParams as Params
from vllm.engine import LLM
from other import Thing

async def work(self, more):
    Params(1, seed=2)
    EngineArgs(**more)
    LLM.make(1)
    Thing(3)
    await self._llm.pause(mode="abort")
    await self._rpc("begin")
    await self._rpc("load", *more, 1)
    self._rpc(more)
"""
WORKER = """
class Base:
    def begin(self, wrong): ...

class Worker:
    def begin(self): ...
    async def load(self, info, target=None, *, strict): ...
    def every(self, *args, **kwargs): ...
"""


def test_calls_of_imported_names_are_found() -> None:
    assert imported_calls(SOURCE, "vllm") == [
        Call("vllm:SamplingParams", 7, 1, ("seed",), False),
        Call("vllm:EngineArgs", 8, 0, (), True),
        Call("vllm.engine:LLM.make", 9, 1, (), False),
    ]


def test_calls_of_methods_and_of_workers_are_found() -> None:
    assert method_calls(SOURCE, {"self._llm": "AsyncLLM"}) == [
        Call("AsyncLLM.pause", 11, 0, ("mode",), False)
    ]
    assert remote_calls(SOURCE, "self._rpc") == [
        Call("begin", 12, 0, (), False),
        Call("load", 13, 1, (), True),
    ]


@pytest.mark.parametrize(
    ("name", "positional", "keywords", "problem"),
    [
        ("begin", 0, (), None),
        ("begin", 1, (), "too many positional arguments"),
        ("load", 1, ("strict",), None),
        ("load", 1, (), "missing a required"),
        ("load", 0, ("info", "strict", "other"), "unexpected keyword argument 'other'"),
        ("every", 9, ("anything",), None),
    ],
)
def test_arguments_are_held_against_signatures_read_from_source(
    name: str, positional: int, keywords: tuple[str, ...], problem: str | None
) -> None:
    found = refusal(methods_of(WORKER, "Worker")[name], Call(name, 1, positional, keywords, False))
    assert (found is None) if problem is None else (found is not None and problem in found)


def test_what_a_star_stands_for_is_not_missed() -> None:
    signature = inspect.signature(lambda a, b: None)
    assert refusal(signature, Call("f", 1, 1, (), starred=True)) is None
    assert refusal(signature, Call("f", 1, 1, (), starred=False)) is not None
    assert refusal(signature, Call("f", 1, 3, (), starred=True)) is not None


def test_a_class_that_is_gone_is_an_error() -> None:
    with pytest.raises(ValueError, match="no class GPUWorker"):
        methods_of(WORKER, "GPUWorker")


@pytest.mark.parametrize("preset", sorted((ROOT / "configs").glob("*.toml")), ids=lambda path: path.stem)
def test_every_preset_for_gpus_has_a_tiny_model_of_its_family(preset: Path) -> None:
    config = load_config(preset)
    if config.rollout.gpus_per_replica == 0:
        return
    vendor, name = family_of(config.model.path).hub_name.split("/")
    assert config.model.path.startswith(f"{vendor}/{name.split('-')[0]}-")
