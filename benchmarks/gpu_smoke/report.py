"""What a step reports: one line of text and its figures. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["PASS", "FAIL", "SKIP"]


@dataclass(frozen=True, slots=True)
class Line:
    """One check. `figure` is read by a person, `values` by a program; both are of the same measurement."""

    status: Status
    name: str
    figure: str
    values: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.status}  {self.name}: {self.figure}"


def check(passed: bool, name: str, figure: str, **values: Any) -> Line:
    return Line("PASS" if passed else "FAIL", name, figure, values)


def skip(name: str, reason: str) -> Line:
    return Line("SKIP", name, reason)


def summary(lines: list[Line]) -> str:
    counts = {status: sum(line.status == status for line in lines) for status in ("PASS", "FAIL", "SKIP")}
    return f"{counts['PASS']} passed, {counts['FAIL']} failed, {counts['SKIP']} skipped"
