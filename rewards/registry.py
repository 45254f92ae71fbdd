"""Collect the rewards of a run: the built-in rewards, and those in files that its settings name.

To add a built-in reward, write its module (see `rewards/reward.py`) and list it in BUILT_IN, after the
rewards that it needs. Settings, records, curves and dashboards are derived from this list.
"""

from typing import Any

from rewards import format as format_reward
from rewards import ranking, regression, temporal
from rewards.reward import Reward, RewardError, check_reward, load_reward, reward_of
from rewards.settings import RewardSettings

BUILT_IN = tuple(reward_of(module) for module in (regression, ranking, temporal, format_reward))


def rewards_of(config: RewardSettings) -> list[Reward]:
    """The rewards of a run, each after the rewards that it needs.

    Raises:
        RewardError: if a custom file does not load, has the name of another reward, or needs a reward that is
            not declared before it.
    """
    found = list(BUILT_IN)
    for path in config.custom:
        reward = load_reward(path, config.custom_texts[path])
        names = [other.name for other in found]
        if reward.name in names:
            raise RewardError(
                f"{path}: its NAME '{reward.name}' is taken; the rewards before it are {', '.join(names)}"
            )
        if unknown := [need for need in reward.needs if need not in names]:
            raise RewardError(
                f"{path}: NEEDS names {', '.join(unknown)}; the rewards before it are {', '.join(names)}"
            )
        found.append(reward)
    return found


def check_custom(config: RewardSettings) -> None:
    """Load every custom reward and test it on a small cohort. Raises RewardError."""
    rewards = rewards_of(config)
    for number, path in enumerate(config.custom, start=len(BUILT_IN)):
        check_reward(rewards[number], path, rewards[:number], config)


def weight_of(reward: Reward, config: RewardSettings) -> float:
    """The weight of a reward in the total: the setting `rewards.NAME_weight`; for a custom reward, the weight
    in its file."""
    return float(getattr(config, f"{reward.name}_weight", reward.weight))


def samples_perturbed(config: RewardSettings) -> bool:
    """Whether perturbed copies are sampled: some reward with a weight above 0 needs them."""
    return any(reward.needs_perturbed and weight_of(reward, config) > 0 for reward in rewards_of(config))


def describe_rewards(config: RewardSettings) -> list[dict[str, Any]]:
    """Describe each reward of a run for its run.json."""
    return [
        {
            "name": reward.name,
            "weight": weight_of(reward, config),
            "description": reward.description,
            "sha256": reward.sha256 or None,
        }
        for reward in rewards_of(config)
    ]
