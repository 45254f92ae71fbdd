"""Declare every metric that a run records per update: its title, unit, group and description.

The terminal, the viewer, Prometheus and Grafana use this table. The metrics of single rewards are derived
from the rewards of the run (`reward_metrics`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rewards.cohort import TOTAL
from rewards.registry import BUILT_IN

Unit = Literal["", "s", "share", "tokens", "tokens/s", "nats", "versions", "videos"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of an update. `name` has the form `area/name`, as in metrics.jsonl. `about` describes it."""

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
        "Mean standard deviation of the total reward within a group. At 0 there is no gradient.",
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
        "Share of tokens whose policy ratio was clipped.",
        "share",
    ),
    Metric("policy/importance_mean", "Mean importance weight", POLICY, "Mean of the truncated weights."),
    Metric("policy/importance_max", "Largest importance weight", POLICY, "Maximum before truncation."),
    Metric(
        "rollout/completion_tokens",
        "Completion length",
        ANSWERS,
        "Mean number of tokens of clean completions.",
        "tokens",
    ),
    Metric(
        "rollout/unparsed_ratio",
        "Unparsed",
        ANSWERS,
        "Share of completions whose score does not parse.",
        "share",
    ),
    Metric(
        "rollout/score_std",
        "Score spread inside a group",
        ANSWERS,
        "Mean standard deviation of the scores within a group.",
    ),
    Metric(
        "staleness/max",
        "Staleness",
        ANSWERS,
        "Policy versions between the oldest token of the update and the policy it trained.",
        "versions",
    ),
    Metric(
        "rollout/tokens",
        "Sampled tokens",
        ANSWERS,
        "Number of tokens of all completions, clean and perturbed.",
        "tokens",
    ),
    Metric(
        "rollout/tokens_per_s",
        "Sampling throughput",
        SPEED,
        "Sampled tokens divided by the duration of the step.",
        "tokens/s",
    ),
    Metric(
        "learner/tokens_per_s",
        "Training throughput",
        SPEED,
        "Completion tokens trained on per second, all ranks together.",
        "tokens/s",
    ),
    Metric("timing/step_s", "Step", SPEED, "Seconds for one step: wait, update and weight sync.", "s"),
    Metric(
        "timing/wait_s", "Waiting for samples", SPEED, "Seconds that the learner waited for cohorts.", "s"
    ),
    Metric(
        "timing/early_reference_s",
        "Early reference passes",
        SPEED,
        "Seconds of the reference policy's forward passes while the learner waited for cohorts.",
        "s",
    ),
    Metric(
        "timing/evaluation_s",
        "Waiting for an evaluation",
        SPEED,
        "Seconds that new weights waited for the end of an evaluation.",
        "s",
    ),
    Metric("learner/update_s", "Learner update", SPEED, "Seconds of the GRPO update on rank 0.", "s"),
    Metric(
        "checkpoint/pause_s",
        "Pause for a checkpoint",
        SPEED,
        "Seconds that training paused for the latest checkpoint.",
        "s",
    ),
    Metric(
        "checkpoint/write_s",
        "Writing a checkpoint",
        SPEED,
        "Seconds to write the latest checkpoint, in parallel with updates.",
        "s",
    ),
    Metric(
        "sync/s", "Weight sync", SPEED, "Seconds from the end of the update until all engines confirm.", "s"
    ),
    Metric("sync/gather_s", "Weight gathering", SPEED, "Seconds to gather the weights from the ranks.", "s"),
    Metric(
        "sync/load_s",
        "Weight loading",
        SPEED,
        "Seconds to send weights and load them into engines.",
        "s",
    ),
    Metric(
        "sync/broadcast_s",
        "Weight broadcast",
        SPEED,
        "Seconds of rank 0's broadcast over NCCL, waiting for engines included; part of those of loading.",
        "s",
    ),
    Metric(
        "sync/pause_s",
        "Pause of the engines",
        SPEED,
        "Seconds that new weights kept an engine from running anything, of the one that paused longest.",
        "s",
    ),
    Metric("sync/open_s", "Opening the transfer group", SPEED, "Seconds to open an NCCL group.", "s"),
    Metric(
        "learner/forward_s",
        "Forward passes",
        SPEED,
        "Seconds of the policy's forward passes by the host's clock. On a GPU they include waiting for the "
        "backward pass before.",
        "s",
    ),
    Metric(
        "learner/backward_s",
        "Backward passes",
        SPEED,
        "Seconds of the backward passes by the host's clock. On a GPU they end when the pass is launched.",
        "s",
    ),
    Metric(
        "learner/reference_s",
        "Reference passes",
        SPEED,
        "Seconds of the reference policy's forward passes by the host's clock. On a GPU they end when the "
        "passes are launched.",
        "s",
    ),
    Metric(
        "learner/optimizer_s",
        "Optimizer step",
        SPEED,
        "Seconds of the optimizer step by the host's clock. On a GPU they include waiting for the last "
        "backward pass.",
        "s",
    ),
    Metric(
        "learner/inputs_wait_s",
        "Waiting for inputs",
        SPEED,
        "Seconds that the passes waited for their input batches.",
        "s",
    ),
    Metric(
        "rollout/prefix_cache_hit_ratio",
        "Prefix cache hits",
        SPEED,
        "Share of prompt tokens found in an engine's prefix cache.",
        "share",
    ),
    Metric(
        "rollout/waiting_videos",
        "Waiting videos",
        SPEED,
        "Videos that wait for a rollout worker with capacity.",
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
        "Number of completion tokens trained on, over all ranks.",
        "tokens",
    ),
    Metric("learner/micro_batches", "Micro-batches", OPTIMIZER, "Forward passes of rank 0."),
    Metric(
        "learner/padding_share",
        "Padding",
        OPTIMIZER,
        "Share of token positions in the passes that are padding.",
        "share",
    ),
    Metric(
        "learner/repeated_share",
        "Repeated passes",
        OPTIMIZER,
        "Share of passes repeated only so that all ranks run equally many.",
        "share",
    ),
    Metric(
        "learner/lockstep",
        "Lockstep",
        OPTIMIZER,
        "Tokens that the passes take in lockstep, relative to perfectly balanced ranks; 1 is ideal.",
    ),
    Metric("data/trained_videos", "Videos trained on", DATA, "Videos with nonzero advantages.", "videos"),
    Metric(
        "data/skipped_videos",
        "Videos without variance",
        DATA,
        "Videos whose completions all got the same reward.",
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
    """Build the metrics of a run's rewards. `rewards` maps each reward's name to its description."""
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
    """The names of the rewards whose metrics are among `names`.

    The total comes first, then built-in rewards in their order, then others by name.
    """
    found = {name.removeprefix("reward/") for name in names if name.startswith("reward/")} - {"group_std"}
    declared = [TOTAL, *(reward.name for reward in BUILT_IN)]
    return [name for name in declared if name in found] + sorted(found.difference(declared))


def about(name: str) -> str:
    """The description of a metric. For a metric that is not declared (of an evaluation, of a user's reward),
    its name."""
    return METRICS[name].about if name in METRICS else name


def sections(names: Iterable[str], rewards: Mapping[str, str]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The declared metrics among `names`, as pairs (group, metrics) in the order of declaration.

    Each metric is a dictionary with name, title, unit and about.

    Args:
        rewards: the description of each reward of the run, by its name.
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
