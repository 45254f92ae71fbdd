"""Where the time of a run's steps went: `python -m benchmarks.where_time_goes runs/first --json where.json`.

Reads what a run with `--metrics.trace=true` left behind. Each moment of a step belongs to the first of these
that was going on then: an update, weights on their way, sampling, scoring, decoding; to the controller alone
if none was. So the parts add up to the step, and work behind other work counts for nothing.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import write_figures
from monitoring.run_dir import RunDirectory

WARM_UP = 1
"""Updates that are not counted: the first waits for decoding, and engines and ranks warm up."""

Span = tuple[float, float]
PARTS = ("update", "weights", "sampling", "rewards", "decoding")


def read_spans(events: Iterable[Mapping[str, Any]]) -> dict[str, list[tuple[str, Span]]]:
    """(name, (began, ended) in seconds) of the spans of each actor, out of the events of trace.json."""
    actors = {event["pid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    spans: dict[str, list[tuple[str, Span]]] = {actor: [] for actor in actors.values()}
    for event in events:
        if event["ph"] == "X":
            began_s = event["ts"] / 1e6
            spans[actors[event["pid"]]].append((event["name"], (began_s, began_s + event["dur"] / 1e6)))
    return spans


def split_step(step: Span, busy: Mapping[str, Sequence[Span]]) -> dict[str, float]:
    """Seconds of `step` that belong to each part of `busy`, in its order of precedence, and to `alone`, when
    none was going on."""
    cuts = sorted({t for spans in busy.values() for span in spans for t in span if step[0] < t < step[1]})
    seconds = dict.fromkeys([*busy, "alone"], 0.0)
    edges = [step[0], *cuts, step[1]]
    for began_s, ended_s in pairwise(edges):
        middle = (began_s + ended_s) / 2
        owner = next(
            (name for name, spans in busy.items() if any(a <= middle < b for a, b in spans)), "alone"
        )
        seconds[owner] += ended_s - began_s
    return seconds


def split_run(
    spans: Mapping[str, Sequence[tuple[str, Span]]], metrics: Sequence[Mapping[str, Any]]
) -> list[dict[str, float]]:
    """`split_step` of each update of `metrics`. The time by which the call of an update outlasts the ranks'
    own clock is taken from `update` and given to `handing over`."""
    workers = [actor for actor in spans if actor.startswith("rollout-")]
    busy = {
        "update": [s for name, s in spans.get("learner", ()) if name.startswith("update")],
        "weights": [s for _, s in spans.get("weights", ())],
        "sampling": [s for worker in workers for _, s in spans[worker]],
        "rewards": [s for _, s in spans.get("rewards", ())],
        "decoding": [s for _, s in spans.get("decoding", ())],
    }
    ends = {name: span[1] for name, span in spans.get("weights", ())}
    steps = []
    for update in metrics:
        ended_s = ends[f"version {int(update['update']) + 1}"]
        seconds = split_step((ended_s - update["timing/step_s"], ended_s), busy)
        computing_s = min(seconds["update"], update.get("learner/update_s", 0.0))
        seconds["handing over"] = seconds["update"] - computing_s
        steps.append(seconds | {"update": computing_s})
    return steps


def rows(steps: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Seconds of each part, the mean over steps, and its share of all."""
    whole_s = sum(sum(step.values()) for step in steps)
    return [
        {
            "part": part,
            "s a step": sum(step[part] for step in steps) / len(steps),
            "share %": 100 * sum(step[part] for step in steps) / whole_s,
        }
        for part in (*PARTS, "handing over", "alone")
    ]


def where_time_goes(run: Path) -> dict[str, Any]:
    """Figures of a run's steps, the first left out.

    Raises:
        ValueError: if the run wrote no trace, or made no more than one update.
    """
    directory = RunDirectory(run)
    if not directory.trace.exists():
        raise ValueError(f"{directory.trace} is missing: train with --metrics.trace=true")
    metrics = list(directory.read_lines("metrics"))[WARM_UP:]
    if not metrics:
        raise ValueError(f"{run}: it takes at least {WARM_UP + 1} updates to tell")
    steps = split_run(read_spans(json.loads(directory.trace.read_bytes())), metrics)
    parts = rows(steps)
    share = {row["part"]: row["share %"] for row in parts}
    return {
        "steps": len(steps),
        "step_s": median(update["timing/step_s"] for update in metrics),
        "controller_and_rewards_percent": round(share["rewards"] + share["handing over"] + share["alone"], 3),
        "where_time_goes": parts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    write_figures(where_time_goes(arguments.run), arguments.json)


if __name__ == "__main__":
    main()
