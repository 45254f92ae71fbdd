"""Every metric that a run records for an update: its title, unit, group and meaning, declared once.

Terminal, viewer, Prometheus and Grafana read this table. The rewards' own metrics follow from the rewards of
the run (`reward_metrics`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rewards.cohort import TOTAL
from rewards.registry import BUILT_IN

Unit = Literal["", "s", "share", "tokens", "tokens/s", "nats", "versions", "videos"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of an update. `name` is `area/name`, as it stands in metrics.jsonl."""

    name: str
    title: str
    group: str
    about: str
    unit: Unit = ""


REWARDS, POLICY, ANSWERS, SPEED, OPTIMIZER, DATA = (
    "Rewards",
    "Policy",
    "Answers",
    "Speed",
    "Optimizer",
    "Data",
)
GROUPS = (REWARDS, POLICY, ANSWERS, SPEED, OPTIMIZER, DATA)

_DECLARED = (
    Metric(
        f"reward/{TOTAL}", "Total reward", REWARDS, "Mean weighted sum of the rewards of clean completions."
    ),
    Metric(
        "reward/group_std",
        "Spread inside a group",
        REWARDS,
        "Mean standard deviation of the total reward over a video's completions. At 0 nothing is learned.",
    ),
    Metric(
        "policy/kl_to_base",
        "KL to the base",
        POLICY,
        "k3 estimate of the KL divergence to the base model.",
        "nats",
    ),
    Metric(
        "policy/mismatch_kl",
        "Mismatch KL",
        POLICY,
        "KL divergence between engine and learner on the sampled tokens. Near 0 unless samples are stale.",
        "nats",
    ),
    Metric("policy/entropy", "Entropy", POLICY, "Mean entropy of the policy at a sampled token.", "nats"),
    Metric(
        "policy/clip_fraction",
        "Clipped fraction",
        POLICY,
        "Share of tokens whose ratio was clipped.",
        "share",
    ),
    Metric(
        "policy/importance_mean", "Mean importance weight", POLICY, "Of the truncated importance weights."
    ),
    Metric("policy/importance_max", "Largest importance weight", POLICY, "Of the weights before truncation."),
    Metric(
        "rollout/completion_tokens",
        "Completion length",
        ANSWERS,
        "Mean tokens of a clean completion.",
        "tokens",
    ),
    Metric(
        "rollout/unparsed_ratio",
        "Unparsed",
        ANSWERS,
        "Share of completions without a readable score.",
        "share",
    ),
    Metric(
        "rollout/score_std",
        "Score spread inside a group",
        ANSWERS,
        "Mean standard deviation of the scores of a video's completions.",
    ),
    Metric(
        "staleness/max",
        "Staleness",
        ANSWERS,
        "Versions between the oldest token of the update and the policy that it trained.",
        "versions",
    ),
    Metric(
        "rollout/tokens",
        "Sampled tokens",
        ANSWERS,
        "Tokens of all completions, clean and perturbed.",
        "tokens",
    ),
    Metric(
        "rollout/tokens_per_s",
        "Sampling throughput",
        SPEED,
        "Sampled tokens by the seconds of a step.",
        "tokens/s",
    ),
    Metric(
        "learner/tokens_per_s",
        "Training throughput",
        SPEED,
        "Tokens trained a second, of one rank.",
        "tokens/s",
    ),
    Metric("timing/step_s", "Step", SPEED, "Seconds from one update to the next.", "s"),
    Metric(
        "timing/wait_s", "Waiting for samples", SPEED, "Seconds that the learner waited for cohorts.", "s"
    ),
    Metric(
        "learner/update_s", "Learner update", SPEED, "Seconds of the GRPO update on the slowest rank.", "s"
    ),
    Metric(
        "checkpoint/pause_s",
        "Pause for a checkpoint",
        SPEED,
        "Seconds that updates stood still for the last checkpoint.",
        "s",
    ),
    Metric(
        "checkpoint/write_s",
        "Writing a checkpoint",
        SPEED,
        "Seconds of writing the last checkpoint, beside updates.",
        "s",
    ),
    Metric(
        "sync/s", "Weight sync", SPEED, "Seconds from the update's end to every engine's confirmation.", "s"
    ),
    Metric(
        "sync/gather_s", "Weight gathering", SPEED, "Seconds of gathering the weights from the ranks.", "s"
    ),
    Metric(
        "sync/load_s",
        "Weight loading",
        SPEED,
        "Seconds of sending weights and loading them into engines.",
        "s",
    ),
    Metric("sync/open_s", "Opening the transfer group", SPEED, "Seconds of opening an NCCL group.", "s"),
    Metric("learner/forward_s", "Forward passes", SPEED, "Seconds of the policy's forward passes.", "s"),
    Metric("learner/backward_s", "Backward passes", SPEED, "Seconds of the backward passes.", "s"),
    Metric(
        "learner/reference_s",
        "Reference passes",
        SPEED,
        "Seconds of the reference policy's forward passes.",
        "s",
    ),
    Metric("learner/optimizer_s", "Optimizer step", SPEED, "Seconds of the optimizer step.", "s"),
    Metric(
        "learner/inputs_wait_s",
        "Waiting for inputs",
        SPEED,
        "Seconds that passes waited for their inputs.",
        "s",
    ),
    Metric(
        "rollout/prefix_cache_hit_ratio",
        "Prefix cache hits",
        SPEED,
        "Share of prompt tokens that were in an engine's prefix cache.",
        "share",
    ),
    Metric(
        "rollout/waiting_videos",
        "Waiting videos",
        SPEED,
        "Videos that no rollout worker has room for.",
        "videos",
    ),
    Metric("learner/loss", "Loss", OPTIMIZER, "GRPO loss of the update."),
    Metric("learner/grad_norm", "Gradient norm", OPTIMIZER, "Norm of the gradient before clipping."),
    Metric("learner/lr", "Learning rate", OPTIMIZER, "Learning rate of the update."),
    Metric("learner/skipped", "Skipped update", OPTIMIZER, "1 if loss or gradient was not finite."),
    Metric(
        "learner/tokens",
        "Trained tokens",
        OPTIMIZER,
        "Completion tokens trained on, over all ranks.",
        "tokens",
    ),
    Metric("learner/micro_batches", "Micro-batches", OPTIMIZER, "Forward passes of a rank."),
    Metric(
        "learner/padding_share",
        "Padding",
        OPTIMIZER,
        "Share of the tokens of a pass that are padding.",
        "share",
    ),
    Metric(
        "learner/repeated_share",
        "Repeated passes",
        OPTIMIZER,
        "Share of passes that a rank makes only to stay in step with the others.",
        "share",
    ),
    Metric(
        "learner/lockstep",
        "Lockstep",
        OPTIMIZER,
        "Tokens that ranks in step compute, over their share of the tokens: 1 where all are equally busy.",
    ),
    Metric(
        "data/trained_videos", "Videos trained on", DATA, "Videos whose group had an advantage.", "videos"
    ),
    Metric(
        "data/skipped_videos",
        "Videos without variance",
        DATA,
        "Videos whose completions all earned the same.",
        "videos",
    ),
    Metric(
        "data/failed_videos",
        "Videos that failed",
        DATA,
        "Videos that could not be decoded or sampled.",
        "videos",
    ),
)


def reward_metrics(rewards: Mapping[str, str]) -> list[Metric]:
    """The metrics of a run's rewards. `rewards`: each reward's description, by name."""
    return [
        Metric(
            f"reward/{name}", name.replace("_", " ").capitalize(), REWARDS, f"Mean before weighting: {about}"
        )
        for name, about in rewards.items()
    ]


METRICS = {
    metric.name: metric
    for metric in (*_DECLARED, *reward_metrics({reward.name: reward.description for reward in BUILT_IN}))
}


def reward_names(names: Iterable[str]) -> list[str]:
    """The total and the rewards whose metrics are among `names`, the total first and then as declared."""
    found = {name.removeprefix("reward/") for name in names if name.startswith("reward/")} - {"group_std"}
    declared = [TOTAL, *(reward.name for reward in BUILT_IN)]
    return [name for name in declared if name in found] + sorted(found.difference(declared))


def about(name: str) -> str:
    """What a metric means; of one that is not declared (an evaluation's, a user's reward's), its name."""
    return METRICS[name].about if name in METRICS else name


def sections(names: Iterable[str], rewards: Mapping[str, str]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The declared metrics among `names`, by group, in the order of declaration: name, title, unit, meaning.

    Args:
        rewards: each reward of the run with its description.
    """
    total, spread, *rest = _DECLARED
    recorded = set(names)
    ordered = (total, *reward_metrics(rewards), spread, *rest)
    found = []
    for group in GROUPS:
        shown = [
            {"name": m.name, "title": m.title, "unit": m.unit, "about": m.about}
            for m in ordered
            if m.group == group and m.name in recorded
        ]
        if shown:
            found.append((group, shown))
    return found
