"""Declare the panels of the dashboards: titles, queries, units. cluster/journal.py writes the metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

RUN = '{run=~"$run"}'
"""Label selector for the runs chosen in the menu of a dashboard."""
_HEALTHY = f"and on (run, worker) ray_vqathinker_worker_healthy{RUN} == 1"

Kind = Literal["timeseries", "heatmap", "state-timeline", "table"]


@dataclass(frozen=True, slots=True)
class Query:
    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    about: str
    queries: Sequence[Query]
    unit: str = "short"
    kind: Kind = "timeseries"
    """A `table` shows one row per series: its labels, and its current value under the legend as title."""
    stacked: bool = False
    states: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    """For a state-timeline: text and colour of each value."""


@dataclass(frozen=True, slots=True)
class Event:
    """Vertical lines in all panels over time. `expression` returns their Unix times in milliseconds."""

    name: str
    expression: str
    text: str


@dataclass(frozen=True, slots=True)
class Dashboard:
    uid: str
    title: str
    panels: Sequence[Panel]
    events: Sequence[Event] = ()


def metric(name: str, legend: str) -> Query:
    """Query the metric `area/name` of updates."""
    return Query(f"ray_vqathinker_{name.replace('/', '_')}{RUN}", f"{{{{run}}}} {legend}".strip())


def of_workers(name: str) -> Query:
    """Query a figure of each healthy worker. Leave out failed workers, whose gauges keep their last value."""
    return Query(f"ray_vqathinker_worker_{name}{RUN} {_HEALTHY}", "{{run}} {{worker}}")


def total(counter: str, by: str) -> Query:
    """Query the total of a counter over all processes of a run, for each value of the label `by`."""
    return Query(f"sum by (run, {by}) (ray_vqathinker_{counter}_total{RUN})", f"{{{{run}}}} {{{{{by}}}}}")


def of_splits(name: str) -> Query:
    """Query an evaluation score of each split."""
    every = f'{{__name__=~"ray_vqathinker_eval_.+_{name}", run=~"$run"}}'
    split = f'label_replace({every}, "split", "$1", "__name__", "ray_vqathinker_eval_(.+)_{name}")'
    return Query(split, "{{run}} {{split}}")


def of_rewards() -> Query:
    """Query the mean of each reward, including rewards defined by users."""
    no_reward = '__name__!~".*_reward_(total|group_std|by_set_.+)"'
    every = f'{{__name__=~"ray_vqathinker_reward_.+", {no_reward}, run=~"$run"}}'
    named = f'label_replace({every}, "reward", "$1", "__name__", "ray_vqathinker_reward_(.+)")'
    return Query(named, "{{run}} {{reward}}")


def quantile(q: float, histogram: str) -> Query:
    """Query a quantile of a histogram over recent completions."""
    buckets = f"rate(ray_vqathinker_{histogram}_bucket{RUN}[$__rate_interval])"
    return Query(f"histogram_quantile({q}, sum by (run, le) ({buckets}))", f"{{{{run}}}} {q:.0%}")


def distribution(histogram: str) -> Query:
    """Query the number of recent completions in each bucket of a histogram."""
    buckets = f"increase(ray_vqathinker_{histogram}_bucket{RUN}[$__rate_interval])"
    return Query(f"sum by (le) ({buckets})", "{{le}}")


_FAULT_MS = f"1000 * max by (run, actor) (ray_vqathinker_fault_timestamp_seconds{RUN})"
_EVERY_FAULT_MS = (
    f"1000 * max by (run, actor) (last_over_time(ray_vqathinker_fault_timestamp_seconds{RUN}[$__range]))"
)
FAULTS = Event("Faults", _FAULT_MS, "{{actor}} of {{run}}")

TRAINING = Dashboard(
    "vqathinker-training",
    "VQAThinker: training",
    [
        Panel("Reward", "Mean total reward of an update's clean completions.", [metric("reward/total", "")]),
        Panel(
            "Reward components",
            "Means before weighting. The format reward saturates first; regression and ranking follow.",
            [of_rewards()],
        ),
        Panel(
            "Spread in groups",
            "Mean standard deviation over the completions of a video. Near 0 there is no gradient.",
            [metric("reward/group_std", "reward"), metric("rollout/score_std", "score")],
        ),
        Panel("SRCC on held-out", "SRCC of greedy answers on each evaluated split.", [of_splits("srcc")]),
        Panel(
            "KL",
            "KL to the base model; mismatch KL between engine and learner (near 0 unless samples are stale).",
            [metric("policy/kl_to_base", "to base"), metric("policy/mismatch_kl", "mismatch")],
        ),
        Panel(
            "Policy",
            "Mean entropy of a token in nats, and the share of tokens whose policy ratio was clipped.",
            [metric("policy/entropy", "entropy"), metric("policy/clip_fraction", "clipped")],
        ),
        Panel(
            "Optimiser",
            "Loss, and norm of the gradient before clipping.",
            [metric("learner/loss", "loss"), metric("learner/grad_norm", "gradient")],
        ),
        Panel(
            "Completion length",
            "Tokens per completion: mean of each update, and quantiles of recent completions.",
            [
                metric("rollout/completion_tokens", "mean"),
                quantile(0.5, "completion_length"),
                quantile(0.95, "completion_length"),
            ],
        ),
        Panel(
            "Unparsed",
            "Share of completions whose score does not parse.",
            [metric("rollout/unparsed_ratio", "")],
            unit="percentunit",
        ),
        Panel(
            "Scores",
            "Distribution of the scores of recent completions.",
            [distribution("completion_score")],
            kind="heatmap",
        ),
        Panel(
            "Total rewards",
            "Distribution of the total rewards of recent completions.",
            [distribution("completion_reward")],
            kind="heatmap",
        ),
        Panel(
            "Updates per minute",
            "Falls to 0 when a run ends or hangs.",
            [
                Query(
                    f"60 * sum by (run) (rate(ray_vqathinker_updates_total{RUN}[$__rate_interval]))",
                    "{{run}}",
                )
            ],
        ),
    ],
    events=[FAULTS],
)

FLEET = Dashboard(
    "vqathinker-fleet",
    "VQAThinker: fleet",
    [
        Panel(
            "Workers",
            "1 while a rollout worker is healthy, 0 after it has failed. Its replacement has a new name.",
            [Query(f"ray_vqathinker_worker_healthy{RUN}", "{{run}} {{worker}}")],
            kind="state-timeline",
            states={0: ("gone", "red"), 1: ("healthy", "green")},
        ),
        Panel(
            "Who failed, and when",
            "Actors that failed, and the time of their latest failure. faults.jsonl of the run has reasons.",
            [Query(_EVERY_FAULT_MS, "failed at")],
            unit="dateTimeAsIso",
            kind="table",
        ),
        Panel("Faults", "Number of failures so far, by actor.", [total("faults", "actor")]),
        Panel("Throughput", "Completion tokens per second and worker.", [of_workers("tokens_per_s")]),
        Panel(
            "Idle share",
            "Share of time without a request, by worker. If it is high for all, they wait for the learner.",
            [of_workers("idle_share")],
            unit="percentunit",
        ),
        Panel(
            "Prefix cache",
            "Share of prompt tokens found in an engine's prefix cache.",
            [of_workers("cached_prompt_share"), metric("rollout/prefix_cache_hit_ratio", "all")],
            unit="percentunit",
        ),
        Panel(
            "Queue",
            "Outstanding tokens of each worker, and videos that wait for a worker with capacity.",
            [of_workers("outstanding_tokens"), metric("rollout/waiting_videos", "waiting videos")],
        ),
        Panel("Version held", "Policy version of each worker's weights.", [of_workers("version")]),
        Panel(
            "Staleness",
            "Policy versions between the oldest token of an update and the policy it trained.",
            [metric("staleness/max", "")],
        ),
        Panel(
            "Phases of a step",
            "Seconds of each step for waiting for samples, training, and sending weights.",
            [
                metric("timing/wait_s", "waiting for samples"),
                metric("learner/update_s", "training"),
                metric("sync/s", "sending weights"),
            ],
            unit="s",
            stacked=True,
        ),
        Panel(
            "Weight sync",
            "Seconds from the end of the update until all engines confirm.",
            [
                metric("sync/s", "all"),
                metric("sync/gather_s", "gathering"),
                metric("sync/load_s", "into engines"),
                metric("sync/pause_s", "engines pause"),
            ],
            unit="s",
        ),
        Panel(
            "Videos",
            "Videos so far: trained on, skipped because all rewards were equal, failed (see failures.jsonl).",
            [total("videos", "fate")],
        ),
        Panel("Learner", "Tokens trained on per second, all ranks.", [metric("learner/tokens_per_s", "")]),
    ],
    events=[FAULTS],
)

DASHBOARDS = (TRAINING, FLEET)
