"""Finished runs of the demo side by side, in Markdown: `python -m benchmarks.demo_seeds runs/seed*`."""

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Any


def row(run: Path) -> dict[str, Any]:
    """The figures of one run, from its folder alone."""
    summary = json.loads((run / "summary.json").read_text())
    config = json.loads((run / "config.json").read_text())
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    tenth = max(1, len(metrics) // 10)
    return {
        "seed": config["seed"],
        "updates": summary["updates"],
        "minutes": summary["seconds"] / 60,
        "failed": summary["failed_videos"],
        "reward": tuple(
            mean(m["reward/total"] for m in part) for part in (metrics[:tenth], metrics[-tenth:])
        ),
        "splits": {
            split: {
                "base": summary["base"][split],
                "trained": summary["trained"][split],
                "ceiling": summary["ceiling"][split],
                "gain": summary["gain"][split],
            }
            for split in summary["trained"]
        },
    }


def table(rows: list[dict[str, Any]], split: str) -> str:
    """One line a seed, and the mean."""
    lines = [
        "| seed | base | trained | 95 % | gain | 95 %, paired | gain, mean of samples | 95 %, paired | "
        "share of ceiling |",
        "| --- " * 9 + "|",
    ]
    for r in rows:
        s = r["splits"][split]
        greedy, sampled = s["gain"]["srcc"], s["gain"]["mean_srcc"]
        lines.append(
            f"| {r['seed']} | {s['base']['srcc']:.3f} | {s['trained']['srcc']:.3f} "
            f"| {s['trained']['srcc_low']:.2f} to {s['trained']['srcc_high']:.2f} "
            f"| {greedy['gain']:+.3f} | {greedy['low']:+.2f} to {greedy['high']:+.2f} "
            f"| {sampled['gain']:+.3f} | {sampled['low']:+.2f} to {sampled['high']:+.2f} "
            f"| {s['trained']['srcc'] / s['ceiling']['srcc']:.2f} |"
        )
    trained = [r["splits"][split]["trained"]["srcc"] for r in rows]
    lines.append(
        f"| mean | | {mean(trained):.3f} | {min(trained):.2f} to {max(trained):.2f} (range) | | | | | |"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    arguments = parser.parse_args()
    rows = sorted((row(run) for run in arguments.runs), key=lambda r: r["seed"])
    print("| seed | updates | minutes | failed videos | reward, first tenth | reward, last tenth |")
    print("| --- " * 6 + "|")
    for r in rows:
        first, last = r["reward"]
        counts = f"{r['seed']} | {r['updates']} | {r['minutes']:.1f} | {r['failed']}"
        print(f"| {counts} | {first:.2f} | {last:.2f} |")
    for split in rows[0]["splits"]:
        print(f"\n**{split}**, SRCC\n\n{table(rows, split)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
