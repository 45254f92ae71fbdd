"""Records as columns that JSON can carry: short numbers, nothing that is not finite."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

_DIGITS = 6


def numbers(values: Iterable[Any]) -> list[float | None]:
    """Numbers with six significant digits; None for what is missing, not finite or no number."""
    return [_number(value) for value in values]


def integers(values: "np.ndarray | pd.Series") -> list[int]:
    return values.astype(int).tolist()


def numeric_columns(records: Sequence[dict[str, Any]]) -> dict[str, list[float | None]]:
    """A column for every name under which some record has a number."""
    names = {name for record in records for name, value in record.items() if _is_number(value)}
    return {name: numbers(record.get(name) for record in records) for name in sorted(names)}


def _number(value: Any) -> float | None:
    if not _is_number(value) or not math.isfinite(value):
        return None
    return float(f"{value:.{_DIGITS}g}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
