"""What the dashboards show: titles, queries and units. Metrics come from cluster/journal.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

RUN = '{run=~"$run"}'
"""Selects the runs that are chosen at the top of a dashboard."""
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
    """A table shows the labels of each series and its value now, under the legend as its title."""
    stacked: bool = False
    states: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    """Of a state-timeline: text and colour for each value."""


@dataclass(frozen=True, slots=True)
class Event:
    """Lines in all panels over time, at the moments that `expression` gives in milliseconds of Unix time."""

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
    """The metric `area/name` of an update."""
    return Query(f"ray_vqathinker_{name.replace('/', '_')}{RUN}", f"{{{{run}}}} {legend}".strip())


def of_workers(name: str) -> Query:
    """A figure of each worker; of those that take work, for a dead one's last figure says nothing."""
    return Query(f"ray_vqathinker_worker_{name}{RUN} {_HEALTHY}", "{{run}} {{worker}}")


def total(counter: str, by: str) -> Query:
    """What a counter has come to, over all processes that the run has had, for each value of label `by`."""
    return Query(f"sum by (run, {by}) (ray_vqathinker_{counter}_total{RUN})", f"{{{{run}}}} {{{{{by}}}}}")


def of_splits(name: str) -> Query:
    """A figure of each evaluated split."""
    every = f'{{__name__=~"ray_vqathinker_eval_.+_{name}", run=~"$run"}}'
    split = f'label_replace({every}, "split", "$1", "__name__", "ray_vqathinker_eval_(.+)_{name}")'
    return Query(split, "{{run}} {{split}}")


def of_rewards() -> Query:
    """The mean of each reward, a user's own among them."""
    no_reward = '__name__!~".*_reward_(total|group_std|by_set_.+)"'
    every = f'{{__name__=~"ray_vqathinker_reward_.+", {no_reward}, run=~"$run"}}'
    named = f'label_replace({every}, "reward", "$1", "__name__", "ray_vqathinker_reward_(.+)")'
    return Query(named, "{{run}} {{reward}}")


def quantile(q: float, histogram: str) -> Query:
    """A quantile of what completions of late had."""
    buckets = f"rate(ray_vqathinker_{histogram}_bucket{RUN}[$__rate_interval])"
    return Query(f"histogram_quantile({q}, sum by (run, le) ({buckets}))", f"{{{{run}}}} {q:.0%}")


def distribution(histogram: str) -> Query:
    """How many completions of late were in each bucket."""
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
            "Means before weighting. The format reward saturates first, regression and ranking follow.",
            [of_rewards()],
        ),
        Panel(
            "Spread in groups",
            "Standard deviation over the completions of a video. Near 0 there is nothing to learn from.",
            [metric("reward/group_std", "reward"), metric("rollout/score_std", "score")],
        ),
        Panel("SRCC on held-out", "Of each evaluated split, by greedy answers.", [of_splits("srcc")]),
        Panel(
            "KL",
            "To the base model, and between engine and learner on the same weights (mismatch, near 0).",
            [metric("policy/kl_to_base", "to base"), metric("policy/mismatch_kl", "mismatch")],
        ),
        Panel(
            "Policy",
            "Entropy of a token in nats, and the share of tokens whose ratio was clipped.",
            [metric("policy/entropy", "entropy"), metric("policy/clip_fraction", "clipped")],
        ),
        Panel(
            "Optimiser",
            "Loss, and norm of the gradient before clipping.",
            [metric("learner/loss", "loss"), metric("learner/grad_norm", "gradient")],
        ),
        Panel(
            "Completion length",
            "Tokens: the mean of an update, and quantiles of late.",
            [
                metric("rollout/completion_tokens", "mean"),
                quantile(0.5, "completion_length"),
                quantile(0.95, "completion_length"),
            ],
        ),
        Panel(
            "Unparsed",
            "Share of completions without a readable score.",
            [metric("rollout/unparsed_ratio", "")],
            unit="percentunit",
        ),
        Panel(
            "Scores",
            "How many completions of late gave which score.",
            [distribution("completion_score")],
            kind="heatmap",
        ),
        Panel(
            "Total rewards",
            "How many completions of late earned which total reward.",
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
            "1 while a rollout worker takes work. One that fails goes to 0; its replacement has a new name.",
            [Query(f"ray_vqathinker_worker_healthy{RUN}", "{{run}} {{worker}}")],
            kind="state-timeline",
            states={0: ("gone", "red"), 1: ("takes work", "green")},
        ),
        Panel(
            "Who failed, and when",
            "Each actor that failed, and the last time that it did; faults.jsonl of the run says why.",
            [Query(_EVERY_FAULT_MS, "failed at")],
            unit="dateTimeAsIso",
            kind="table",
        ),
        Panel("Faults", "Actors that failed so far, by name.", [total("faults", "actor")]),
        Panel("Throughput", "Tokens of completions a second.", [of_workers("tokens_per_s")]),
        Panel(
            "Idle share",
            "Of each worker's time without a request. High for all: the learner is waited for, see Phases.",
            [of_workers("idle_share")],
            unit="percentunit",
        ),
        Panel(
            "Prefix cache",
            "Share of prompt tokens that were in an engine's cache.",
            [of_workers("cached_prompt_share"), metric("rollout/prefix_cache_hit_ratio", "all")],
            unit="percentunit",
        ),
        Panel(
            "Queue",
            "Tokens handed to each worker and not yet answered, and videos that no worker has room for.",
            [of_workers("outstanding_tokens"), metric("rollout/waiting_videos", "waiting videos")],
        ),
        Panel("Version held", "Policy version of each worker's weights.", [of_workers("version")]),
        Panel(
            "Staleness",
            "Versions between the oldest token of an update and the policy it trained.",
            [metric("staleness/max", "")],
        ),
        Panel(
            "Phases of a step",
            "Waiting for samples, training, sending weights.",
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
            "From the learner's last step to every engine's confirmation.",
            [metric("sync/s", "all"), metric("sync/load_s", "into engines")],
            unit="s",
        ),
        Panel(
            "Videos",
            "Trained, skipped for want of a spread, and failed, so far; failures.jsonl of the run says why.",
            [total("videos", "fate")],
        ),
        Panel("Learner", "Tokens trained a second, of all ranks.", [metric("learner/tokens_per_s", "")]),
    ],
    events=[FAULTS],
)

DASHBOARDS = (TRAINING, FLEET)
