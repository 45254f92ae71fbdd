"""Provide the rewards as functions for TRL's `GRPOTrainer(reward_funcs=...)`, without importing TRL.

    from rewards.trl import reward_functions
    trainer = GRPOTrainer(model, reward_funcs=reward_functions(), train_dataset=dataset, ...)

The completions that TRL passes in one call form the cohort. The dataset's columns are:

    mos         label from 1 to 5; required
    video_id    completions with the same id form a group; optional if `num_generations` is given
    label_set   the ranking reward compares only videos of the same set; default: all are one set
    rank_only   true: the label only orders videos and is not a target for scores
    perturbed   true: the row shows the copy with perturbed frame order, for the temporal reward

TRL calls the functions separately on every device, with that device's completions. Give each device whole
groups of at least two videos; otherwise the ranking reward has fewer videos to compare, or none.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rewards.cohort import CohortTexts, score_cohort
from rewards.config import RewardConfig
from rewards.registry import rewards_of
from rewards.reward import Reward

RewardFunction = Callable[..., list[float]]


def reward_functions(
    config: RewardConfig | None = None,
    components: Sequence[str] = ("format", "regression", "ranking"),
    num_generations: int | None = None,
) -> list[RewardFunction]:
    """Return one function per component. Rewards are unweighted; use `GRPOConfig(reward_weights=[...])`.

    `temporal` needs each clean row and its `perturbed` row in the same batch: put them next to each other,
    do not shuffle the dataset, and use an even number of rows per batch. Both rows are then answered with the
    same weights. All components are 0 for perturbed rows, so their groups have zero advantage and contribute
    only the KL term, if there is one.

    Args:
        components: names of the rewards.
        num_generations: number of completions per group, which must be consecutive; default: group by
            `video_id`.
    Raises:
        ValueError: for an unknown component.
    """
    config = (config or RewardConfig()).with_custom_texts()
    rewards = rewards_of(config)
    known = [reward.name for reward in rewards]
    if unknown := [name for name in components if name not in known]:
        raise ValueError(f"unknown components {', '.join(unknown)}; known are {', '.join(known)}")
    return [
        _reward_function(reward, rewards, config, num_generations)
        for name in components
        for reward in rewards
        if reward.name == name
    ]


def _reward_function(
    component: Reward, all_rewards: Sequence[Reward], config: RewardConfig, num_generations: int | None
) -> RewardFunction:
    def reward(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        clean, perturbed = _groups(len(completions), columns, num_generations)
        if component.needs_perturbed and not perturbed:
            raise ValueError(
                f"the {component.name} reward needs rows with perturbed=true in the batch of the clean rows"
            )
        texts = [_text(completion) for completion in completions]
        table = score_cohort(_cohort(texts, clean, perturbed, columns), config, all_rewards)
        rewards = np.zeros(len(completions))
        for rows, values in zip(clean.values(), table.rewards[component.name], strict=True):
            rewards[rows] = values
        return rewards.tolist()

    reward.__name__ = f"{component.name}_reward"  # TRL logs the reward under this name
    return reward


def _groups(
    n_completions: int, columns: Mapping[str, Any], num_generations: int | None
) -> tuple[dict[Any, list[int]], dict[Any, list[int]]]:
    """Group the row indices by video; returns (clean rows, perturbed rows)."""
    if "video_id" in columns:
        videos = list(columns["video_id"])
    elif num_generations is not None:
        videos = [row // num_generations for row in range(n_completions)]
    else:
        raise ValueError("completions cannot be grouped: add a column video_id, or give num_generations")
    marks = columns.get("perturbed", [False] * n_completions)
    clean: dict[Any, list[int]] = {}
    perturbed: dict[Any, list[int]] = {}
    for row, (video, mark) in enumerate(zip(videos, marks, strict=True)):
        (perturbed if mark else clean).setdefault(video, []).append(row)
    return clean, perturbed


def _cohort(
    texts: Sequence[str],
    clean: Mapping[Any, list[int]],
    perturbed: Mapping[Any, list[int]],
    columns: Mapping[str, Any],
) -> CohortTexts:
    if "mos" not in columns:
        raise ValueError("the dataset has no column mos: add each video's label, from 1 to 5")
    label_sets = columns.get("label_set", [""] * len(texts))
    rank_only = columns.get("rank_only", [False] * len(texts))
    for video, rows in clean.items():
        labels = {float(columns["mos"][row]) for row in rows}
        if len(labels) > 1:
            raise ValueError(f"video_id {video!r} has different labels in column mos: {sorted(labels)}")
    return CohortTexts(
        mos=[float(columns["mos"][rows[0]]) for rows in clean.values()],
        label_sets=[str(label_sets[rows[0]]) for rows in clean.values()],
        rank_only=[bool(rank_only[rows[0]]) for rows in clean.values()],
        clean=[[texts[row] for row in rows] for rows in clean.values()],
        perturbed=[
            [texts[row] for row in perturbed[video]] if video in perturbed else None for video in clean
        ],
    )


def _text(completion: Any) -> str:
    """The text of a completion: a string, or a list of chat messages if prompts are conversations."""
    if isinstance(completion, str):
        return completion
    parts: list[str] = []
    for message in completion:
        content = message["content"]
        parts += [content] if isinstance(content, str) else [part.get("text", "") for part in content]
    return "".join(parts)
