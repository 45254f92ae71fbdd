"""The rewards as functions for TRL's `GRPOTrainer(reward_funcs=...)`. TRL itself is not imported.

    from rewards.trl import reward_functions
    trainer = GRPOTrainer(model, reward_funcs=reward_functions(), train_dataset=dataset, ...)

The completions that TRL hands over at once are the cohort. The dataset's columns:

    mos         label from 1 to 5; required
    video_id    completions of one video are one group; may be left out if `num_generations` is given
    label_set   scores are compared within one set only; default: all are one set
    rank_only   true: the label is an order and no target
    perturbed   true: the row shows the video's copy with its frames out of order, for the temporal reward

TRL calls the functions on every device by itself, with that device's completions: give each at least two
videos, and whole groups, or the ranking reward compares less than it could.
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
    """One function for each of `components`, unweighted: weights are `GRPOConfig(reward_weights=[...])`.

    `temporal` needs rows marked `perturbed` beside the clean ones, in the same batch (neighbouring rows of a
    dataset that is not shuffled, and an even number of rows a batch). The model answers for them under the
    weights that it answers for the clean ones; all components are 0 there, so that a group of them has no
    advantage and is trained on by the KL term alone, if at all.

    Args:
        num_generations: completions of one group, which come one after the other; default: groups follow
            from `video_id`.
    Raises:
        ValueError: for an unknown component.
    """
    config = (config or RewardConfig()).with_custom_texts()
    rewards = rewards_of(config)
    known = [reward.name for reward in rewards]
    if unknown := [name for name in components if name not in known]:
        raise ValueError(f"unknown components {', '.join(unknown)}: there are {', '.join(known)}")
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
                f"the {component.name} reward needs rows with perturbed=true beside the clean ones"
            )
        texts = [_text(completion) for completion in completions]
        table = score_cohort(_cohort(texts, clean, perturbed, columns), config, all_rewards)
        rewards = np.zeros(len(completions))
        for rows, values in zip(clean.values(), table.rewards[component.name], strict=True):
            rewards[rows] = values
        return rewards.tolist()

    reward.__name__ = f"{component.name}_reward"  # what TRL calls it in its logs
    return reward


def _groups(
    n_completions: int, columns: Mapping[str, Any], num_generations: int | None
) -> tuple[dict[Any, list[int]], dict[Any, list[int]]]:
    """Rows of each video's clean and of its perturbed completions, by video."""
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
    """What the model wrote: a string, or a list of chat messages where prompts are conversations."""
    if isinstance(completion, str):
        return completion
    parts: list[str] = []
    for message in completion:
        content = message["content"]
        parts += [content] if isinstance(content, str) else [part.get("text", "") for part in content]
    return "".join(parts)
