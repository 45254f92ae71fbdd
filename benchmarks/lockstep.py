"""What ranks in step compute, against the bound that whole groups allow: `python -m benchmarks.lockstep`.

Ranks make their forward passes together, so that a pass takes as long as the longest of its ranks. For
drawn answers this prints the tokens that an update takes one after another by the project's own planner, and
a lower bound for any plan that keeps groups whole. A tenth of the groups has no variance and is left out, as
in training.
"""

import argparse
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe_machine, write_figures
from data.records import Completion, Group, VideoRef
from learner.batch_planning import plan_update, step_tokens, whole_groups_bound

PROMPT_TOKENS = 1784
"""Of 6 frames of 448 pixels, as InternVL3 sees them."""
ANSWERS = 4
SPREAD = 0.5
"""Standard deviation of the logarithm of the answers' lengths."""
CAP = 2048
SKIPPED = 0.1
BUDGET = 16_384


@dataclass(frozen=True, slots=True)
class Case:
    """Means over draws. `step`, `bound` and `share` are tokens of a rank: in step with the others, at least
    with whole groups, and if tokens could be spread at will. `worst` is the largest ratio of one draw."""

    ranks: int
    videos: int
    mean: int
    at_cap: float
    passes: float
    share: float
    bound: float
    step: float
    worst: float
    plan_ms: float

    @property
    def ratio(self) -> float:
        return self.step / self.bound


def draw_groups(random: np.random.Generator, videos: int, mean: float, at_cap: float) -> list[Group]:
    """Groups of an update. Answers have log-normal lengths, or run to the cap with probability `at_cap`."""
    lengths = random.lognormal(np.log(mean) - SPREAD**2 / 2, SPREAD, (videos, ANSWERS))
    lengths = np.clip(lengths, 20, CAP).astype(int)
    lengths[random.random(lengths.shape) < at_cap] = CAP
    kept = lengths[random.random(videos) >= SKIPPED]
    return [group(row.tolist()) for row in kept]


def group(lengths: list[int]) -> Group:
    completions = [Completion([0] * n, [], "", "stop", [0]) for n in lengths]
    return Group(VideoRef("", "", 6), [0] * PROMPT_TOKENS, completions)


def measure(ranks: int, videos: int, mean: int, at_cap: float, draws: int) -> Case:
    random = np.random.default_rng(0)
    rows: list[tuple[float, ...]] = []
    while len(rows) < draws:
        groups = draw_groups(random, videos, mean, at_cap)
        if not groups:
            continue
        costs = [PROMPT_TOKENS + one.n_tokens for one in groups]
        started_s = time.process_time()
        plans = plan_update(groups, ranks, BUDGET, packed=True)
        seconds = time.process_time() - started_s
        bound, step = whole_groups_bound(costs, ranks), step_tokens(plans, packed=True)
        most = max(len(plan.passes) for plan in plans)
        rows.append((most, sum(costs) / ranks, bound, step, step / bound, 1e3 * seconds))
    passes, share, bound, step, _, plan_ms = np.mean(rows, axis=0).tolist()
    worst = max(row[4] for row in rows)
    return Case(ranks, videos, mean, at_cap, passes, share, bound, step, worst, plan_ms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--videos", type=int, default=32, help="of an update (32)")
    parser.add_argument(
        "--means", type=int, nargs="+", default=[200, 300, 500, 800], help="tokens of an answer"
    )
    parser.add_argument(
        "--at-cap", type=float, nargs="+", default=[0.0, 0.01], help="share of answers at the cap"
    )
    parser.add_argument("--draws", type=int, default=60, help="updates of each case (60)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    print("ranks  mean  at cap  passes  bound  in step  over bound (worst)  over share  planning")
    cases: list[dict[str, Any]] = []
    for ranks in given.ranks:
        for mean in given.means:
            for at_cap in given.at_cap:
                case = measure(ranks, given.videos, mean, at_cap, given.draws)
                print(
                    f"{ranks:5}  {mean:4}  {at_cap:6.1%}  {case.passes:6.2f}  {case.bound:5.0f}  "
                    f"{case.step:7.0f}  {case.ratio:10.3f} ({case.worst:.3f})  "
                    f"{case.step / case.share:10.2f}  {case.plan_ms:5.1f} ms",
                    flush=True,
                )
                cases.append(asdict(case) | {"ratio": case.ratio})
    print(f"largest mean over the bound: {max(case['ratio'] for case in cases):.3f}")
    write_figures({"machine": describe_machine(), "cases": cases}, given.json)


if __name__ == "__main__":
    main()
