"""The simulated control loop against an independent simulation: `python -m benchmarks.loop_table`.

The other one steps through every token of every engine, without controller, router and buffer. Both have an
engine step of 8.2 ms and 59 us a sequence, answers of 300 tokens on average, 32 videos an update, 2 s of
sync, and the update's seconds given; no evaluation and no checkpoint.
"""

import argparse
from pathlib import Path

from benchmarks.machine import describe_machine, write_figures
from cluster.config import load_config
from cluster.planning.costs import LoopCosts
from cluster.planning.engines import Answers
from cluster.planning.service_times import ServiceTimes
from cluster.planning.workers import plan_workers

PRESET = Path("configs/internvl3-8b.toml")
SYNC_S = 2.0
UPDATE_S = {4: 5.0, 8: 2.6, 32: 1.3}
CONDITIONS = [(0.0, 1, 2048), (0.002, 1, 2048), (0.01, 1, 2048), (0.002, 2, 1024)]
"""Share of answers at the cap, staleness, cap."""
STEPPED = {
    4: (10.3, 12.5, 15.1, 8.4),
    8: (8.1, 10.2, 12.8, 6.8),
    32: (6.6, 8.7, 11.2, 5.4),
}
"""Seconds an update by the other simulation, by engines."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=60, help="of each simulation (60)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    rows = []
    print("engines  update + sync  at cap  staleness  cap   here  stepped  ratio")
    for engines, update_s in UPDATE_S.items():
        for (at_cap, staleness, cap), stepped in zip(CONDITIONS, STEPPED[engines], strict=True):
            settings = [f"--schedule.max_staleness={staleness}", f"--rollout.max_completion_tokens={cap}"]
            config = load_config(PRESET, [*settings, "--checkpoint.every_updates=0"])
            times = ServiceTimes(
                update_s=update_s,
                sync_s=SYNC_S,
                engine=LoopCosts().engine_speed(),
                answers=Answers(at_cap=at_cap),
            )
            found = plan_workers(config, times, [engines], given.updates)[engines].period_s
            print(
                f"{engines:7}  {update_s + SYNC_S:13.1f}  {at_cap:6.1%}  {staleness:9}  {cap:4}  "
                f"{found:5.1f}  {stepped:7.1f}  {found / stepped:5.2f}",
                flush=True,
            )
            rows.append(
                {"engines": engines, "at_cap": at_cap, "staleness": staleness, "cap": cap,
                 "period_s": found, "stepped_s": stepped}
            )  # fmt: skip
    write_figures({"machine": describe_machine(), "rows": rows}, given.json)


if __name__ == "__main__":
    main()
