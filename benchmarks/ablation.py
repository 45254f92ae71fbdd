"""The study of rewards and KL coefficients: `python -m benchmarks.ablation`, from the project's folder.

Every run is a `launch.py train` of its own under runs/ablation, and leaves one result in docs/ablation as it
ends. Stopped (Ctrl-C) and called again, the study skips what is finished and goes on with what was begun.
`--report` makes the tables and the picture of the results so far.
"""

import argparse
import shlex
import signal
import sys
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.study import results
from benchmarks.study.arms import ARMS, PRESET, Run, ladder_table, plan
from benchmarks.study.picture import draw
from benchmarks.study.report import write_report
from benchmarks.study.runs import State, Study, StudyError, expected_s
from cluster.config import load_config
from data.manifest import read_manifest

console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="ARM", help=f"of {', '.join(ARMS)}; default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--updates", type=int, default=60, help="length of a run; the demo has 160")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="folder of the runs")
    parser.add_argument("--results", type=Path, default=Path("docs/ablation"), help="folder of the results")
    parser.add_argument("--ladders", type=Path, help="manifest of the ladders arm; default: from demo clips")
    parser.add_argument("--plan", action="store_true", help="print commands and estimate, and run nothing")
    parser.add_argument("--report", action="store_true", help="make tables and picture, and run nothing")
    arguments = parser.parse_args()
    if arguments.report:
        known = results.read_all(arguments.results)
        if not known:
            sys.exit(f"{arguments.results} holds no results yet")
        print(
            write_report(known, arguments.results), draw(known, arguments.results / "ablation.png"), sep="\n"
        )
        return
    ladders = arguments.ladders or arguments.out / "ladders.csv"
    study = Study(arguments.out, arguments.results, arguments.updates, ladders)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        runs = plan(arguments.only, arguments.seeds)
        states = {run.name: study.state(run) for run in runs}
        left = [run for run in runs if states[run.name] is not State.FINISHED]
        console.print(f"{len(runs)} runs, {len(runs) - len(left)} of them finished; {_estimate(left, study)}")
        if arguments.plan:
            for run in left:
                console.print(shlex.join(study.command(run)), soft_wrap=True)
            return
        with study.alone():
            if arguments.ladders is None and any(run.arm.ladders for run in left):
                _write_ladders(ladders)
            failed = _carry_out(left, study)
    except (StudyError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("Stopped; the same command goes on")
    if failed:
        sys.exit(f"{len(failed)} runs failed: {', '.join(failed)}. The same command tries them again")


def _carry_out(left: list[Run], study: Study) -> list[str]:
    """Carry the runs out; returns the names of those that failed."""
    failed = []
    for number, run in enumerate(left, start=1):
        console.print(f"{number} of {len(left)}: {run.name} ({run.arm.title})")
        columns = (TextColumn("  updates"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("updates", total=study.updates)
            try:
                result = study.carry_out(run, lambda done: bar.update(task, completed=done))  # noqa: B023
            except StudyError as error:
                failed.append(run.name)
                console.print(f"  failed: {error}", markup=False)
                continue
        scores = ", ".join(f"{s} SRCC {_shown(f['srcc'])}" for s, f in result["trained"].items())
        console.print(f"  {scores}; {result['seconds']:.0f} s; {_estimate(left[number:], study)}")
    return failed


def _estimate(left: list[Run], study: Study) -> str:
    known = results.read_all(study.results)
    seconds = sum(expected_s(run, study.updates, known) for run in left)
    return f"about {timedelta(seconds=round(seconds))} to go" if left else "nothing to do"


def _write_ladders(path: Path) -> None:
    manifest = load_config(PRESET).data.manifest
    ladder_table(read_manifest(manifest), manifest.parent.resolve()).to_csv(path, index=False)


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
