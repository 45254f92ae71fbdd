"""A GPU engine's compiler and headers are looked for before the engine starts."""

import asyncio
import pickle
from pathlib import Path

import pytest

from data.frame_tokens import DEFAULT_FRAME_TOKENS
from rollout.config import RolloutConfig
from rollout.toolchain import NoCompilerError, check_compiler
from rollout.worker import RolloutWorker


def found(*names: str) -> dict[str, str]:
    return {name: f"/usr/bin/{name}" for name in names}


@pytest.fixture
def headers(tmp_path: Path) -> Path:
    (tmp_path / "Python.h").touch()
    return tmp_path


@pytest.mark.parametrize("compilers", [("gcc",), ("clang",), ("gcc", "clang")])
def test_one_compiler_is_enough(headers: Path, compilers: tuple[str, ...]) -> None:
    check_compiler(headers, found(*compilers).get)


def test_no_compiler(headers: Path) -> None:
    with pytest.raises(NoCompilerError, match="gcc and clang are not installed.*apt-get install g\\+\\+"):
        check_compiler(headers, found().get)


def test_the_compiler_that_the_environment_names_decides(headers: Path) -> None:
    check_compiler(headers, found("icx").get, cc="icx")
    with pytest.raises(NoCompilerError, match="CC names icx"):
        check_compiler(headers, found("gcc").get, cc="icx")


def test_no_headers_of_this_python(tmp_path: Path) -> None:
    with pytest.raises(NoCompilerError, match="apt-get install python3.11-dev") as caught:
        check_compiler(tmp_path, found("gcc").get)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # it travels between processes


def test_a_worker_on_a_gpu_looks_before_it_loads_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    config = RolloutConfig(gpus_per_replica=1)
    worker = RolloutWorker("rollout-0", config, "no-such-model", 4, 0, False, DEFAULT_FRAME_TOKENS)
    with pytest.raises(NoCompilerError, match="no-such-compiler"):
        asyncio.run(worker.start())
