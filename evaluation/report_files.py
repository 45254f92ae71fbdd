"""Write the figures of `launch.py evaluate` for other programs: table.csv and results.json."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.comparison import Means, Report, SetResult, report_notes
from evaluation.statistics.logistic_fit import FIT_NAME
from runtime.files import write_atomically

_NESTED = ("figures", "intervals", "fit", "failures")
FIT_FORMULA = "b2 + (b1 - b2) / (1 + exp(-(x - b3) / |b4|))"


def write_report(report: Report, settings: dict[str, Any], folder: Path) -> None:
    """Write table.csv (one row per model and set, one per model and mean) and results.json (all results).

    Args:
        settings: everything that affects the figures except the sets; recorded in results.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sets = [_set_record(result) for by_model in report.results.values() for result in by_model.values()]
    averages = [_means_record(means) for of_model in report.means.values() for means in of_model]
    rows = map(_table_row, [*sets, *averages])
    write_atomically(folder / "table.csv", pd.DataFrame(rows).convert_dtypes().to_csv(index=False))
    document = {
        "settings": settings,
        "fit": {"name": FIT_NAME, "formula": FIT_FORMULA},
        "sets": sets,
        "averages": averages,
        "differences": [
            {
                "set": name,
                "figure": figure,
                "value": gain.value,
                "low": gain.low,
                "high": gain.high,
                "excludes_zero": gain.excludes_zero,
            }
            for name, differences in report.differences.items()
            for figure, gain in differences.items()
        ],
        "notes": [
            dict(zip(("model", "set", "what", "note"), note, strict=True)) for note in report_notes(report)
        ],
    }
    text = json.dumps(_without_nan(document), indent=2, allow_nan=False, ensure_ascii=False)
    write_atomically(folder / "results.json", text + "\n")


def _set_record(result: SetResult) -> dict[str, Any]:
    figures, fit = result.figures, result.figures.fit
    return {
        "model": result.model,
        "set": result.of.name,
        "n": figures.n,
        "videos": result.videos,
        "unparsed": result.unparsed,
        "unparsed_share": result.unparsed_share,
        "failed": len(result.failures),
        "scale_low": result.of.scale.low,
        "scale_high": result.of.scale.high,
        "figures": dict(figures.values),
        "intervals": {name: list(ends) for name, ends in figures.intervals.items()},
        "fit": None if fit is None else {"b1": fit.b1, "b2": fit.b2, "b3": fit.b3, "b4": fit.b4},
        "failures": dict(result.failures),
    }


def _means_record(means: Means) -> dict[str, Any]:
    return {
        "model": means.model,
        "set": means.name,
        "n": means.n,
        "figures": {name: mean.value for name, mean in means.of.items()},
        "intervals": {name: list(mean.interval) for name, mean in means.of.items()},
    }


def _table_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a record: figures and interval ends become columns; fit and failures are left out."""
    ends = {
        f"{name}_{end}": value
        for name, interval in record["intervals"].items()
        for end, value in zip(("low", "high"), interval, strict=True)
    }
    columns = {name: value for name, value in record.items() if name not in _NESTED}
    return columns | record["figures"] | ends


def _without_nan(value: Any) -> Any:
    """Replace NaN, which JSON does not support, by None."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
