"""What a run shows in a terminal, and what it leaves in a log."""

import asyncio
import fcntl
import io
import json
import math
import os
import pty
import random
import re
import struct
import subprocess
import sys
import termios
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cli.run_display import PLAIN_EVERY_S, RunDisplay, RunFigures, sparkline
from cluster import controller
from monitoring.run_dir import RunDirectory
from rollout.fleet_watch import FleetWatch
from tests.conftest import ROOT
from tests.fakes import FakeWorkers, controller_over, job

_REPLAY = """
import json, sys
from rich.console import Console
from cli.run_display import RunDisplay
with RunDisplay(Console()) as display:
    for event in json.load(open(sys.argv[1])):
        display.show(event)
"""


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Those of a whole run of the real controller, with a fault in its midst. Its fakes answer all videos
    alike, so SRCC is put in."""
    run = RunDirectory(tmp_path_factory.mktemp("run"))
    run.create("{}", "")
    a_job = job()
    fakes = FakeWorkers(a_job.config, random.Random(0), learner_dies_at=[4])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(controller, "FleetWatch", partial(FleetWatch, every_s=0.0))
        training = controller_over(fakes, a_job, run)
        asyncio.run(asyncio.wait_for(training.run(), 60))
    events = training.journal.events(0)[1]
    for event in events:
        if event["kind"] == "evaluation":
            event["scores"] |= {"srcc": 0.3 + 0.01 * event["version"], "srcc_low": 0.1, "srcc_high": 0.6}
    return events


def log_of(events: list[dict[str, Any]], width: int = 120) -> str:
    output = io.StringIO()
    with RunDisplay(Console(file=output, width=width)) as display:
        for event in events:
            display.show(event)
    return output.getvalue()


# Sparklines


@given(st.lists(st.floats(allow_nan=True, width=32), max_size=200), st.integers(1, 40))
def test_a_sparkline_has_a_bar_for_each_value_or_each_neighbourhood(
    values: list[float], columns: int
) -> None:
    assert len(sparkline(values, columns)) == min(columns, sum(map(math.isfinite, values)))


def test_a_sparkline_goes_from_lowest_to_highest() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([5, 1]) == "█▁"
    assert len(set(sparkline([2.0, 2.0, 2.0]))) == 1
    assert sparkline([0.0, 0.0, 7.0, 7.0], columns=2) == "▁█"


# A log


def test_a_log_has_plain_lines(events: list[dict[str, Any]]) -> None:
    log = log_of(events)
    assert "\x1b" not in log
    assert not set("▁▂▃▄▅▆▇█━") & set(log)
    lines = log.splitlines()
    assert re.fullmatch(
        r"\[ +\d+ s\] update 10 of 10: reward \d\.\d\d \(regression \d\.\d\d, ranking \d\.\d\d, "
        r"temporal \d\.\d\d, format 1\.00\); SRCC 0\.380 \(test\); \d+ tokens/s, update \d+\.\d s "
        r"\(wait \d+\.\d, train –, sync 0\.0\); 2 workers, 25% idle, 1 fault",
        next(line for line in lines if "update 10 of" in line),
    )
    assert any("version 0, test: SRCC" in line for line in lines)
    assert any("learner: rank 1 died in update 4" in line for line in lines)
    assert lines.count("skipped /v03.mp4: it ends at 2.0 of its 4.0 s") == 1, "once, not in every epoch"


def test_a_log_has_a_line_of_updates_every_so_often_and_of_the_last() -> None:
    def update(number: int, seconds: float) -> dict[str, Any]:
        metrics = {"rollout/tokens_per_s": 150.0, "timing/step_s": 2.0, "reward/total": 1.0}
        return {"kind": "update", "update": number, "metrics": metrics, "seconds": seconds}

    begin = {"kind": "begin", "seconds": 0.0, "total_updates": 100, "version": 0}
    log = log_of([begin, *(update(n, 2.0 * n) for n in range(100))])
    shown = [int(n) for n in re.findall(r"update (\d+) of 100", log)]
    step = int(PLAIN_EVERY_S / 2)
    assert shown == [*range(1, 100, step), 100]
    assert "150 tokens/s" in log


def test_figures_before_anything_is_known_are_dashes() -> None:
    figures = RunFigures()
    assert "reward –" in figures.update_line()
    assert figures.headline_srcc == figures.fleet_line() == ""


# A terminal


def test_a_terminal_has_a_panel_that_follows(events: list[dict[str, Any]], tmp_path: Path) -> None:
    screen = on_terminal(events, tmp_path, columns=120)
    assert "\x1b[" in screen
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)
    last = text[text.rindex("exporting the model") :]
    assert "10/10" in last
    for title in ("reward", "regression", "ranking", "temporal", "format", "SRCC test", "rates", "policy"):
        assert re.search(rf"^ *{title} +[▁▂▃▄▅▆▇█]*", last, re.MULTILINE), title
    assert re.search(r"^reward +[▁▂▃▄▅▆▇█]{10,} +\d\.\d{3}", last, re.MULTILINE)
    assert re.search(r"^fake-0 +25 tokens/s, 25% idle, version \d+", last, re.MULTILINE)
    assert re.search(r"^fake-1 +healthy", last, re.MULTILINE)
    assert "update 10 of 10" not in text
    assert text.count("version 0, test: SRCC") == 1


def test_a_panel_fits_a_narrow_terminal(events: list[dict[str, Any]], tmp_path: Path) -> None:
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", on_terminal(events, tmp_path, columns=60))
    rows = [row for row in re.split(r"[\r\n]+", screen) if set(row) & set("▁▂▃▄▅▆▇█")]
    assert rows
    assert max(map(len, rows)) <= 60


def on_terminal(events: list[dict[str, Any]], folder: Path, columns: int) -> str:
    """All that a process writes to a terminal of its own while it shows the events."""
    (folder / "events.json").write_text(json.dumps(events))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    plain = {name: v for name, v in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR", "CI")}
    with subprocess.Popen(
        [sys.executable, "-c", _REPLAY, str(folder / "events.json")],
        stdout=theirs,
        stderr=theirs,
        cwd=ROOT,
        env=plain | {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)},
    ) as process:
        os.close(theirs)
        written = b""
        while chunk := _read(ours):
            written += chunk
        assert process.wait(timeout=60) == 0, written.decode()
    os.close(ours)
    return written.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # its last writer is gone
        return b""
