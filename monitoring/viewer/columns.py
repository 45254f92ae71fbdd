"""Convert records to columns of JSON numbers: rounded, with None for values that are not finite."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

_DIGITS = 6


def numbers(values: Iterable[Any]) -> list[float | None]:
    """Round numbers to six significant digits. Missing, non-finite and non-numeric values become None."""
    return [_number(value) for value in values]


def integers(values: "np.ndarray | pd.Series") -> list[int]:
    return values.astype(int).tolist()


def numeric_columns(records: Sequence[dict[str, Any]]) -> dict[str, list[float | None]]:
    """Build one column per name that has a number in at least one record."""
    names = {name for record in records for name, value in record.items() if _is_number(value)}
    return {name: numbers(record.get(name) for record in records) for name in sorted(names)}


def _number(value: Any) -> float | None:
    if not _is_number(value) or not math.isfinite(value):
        return None
    return float(f"{value:.{_DIGITS}g}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
