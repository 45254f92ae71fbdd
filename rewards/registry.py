"""All rewards there are: the method's own, and those that a run's settings name.

To add one to the project, write its module (see `rewards/reward.py`) and list it here, after those that it
needs. Settings, records, curves and dashboards follow from this list.
"""

from typing import Any

from rewards import format as format_reward
from rewards import ranking, regression, temporal
from rewards.reward import Reward, RewardError, check_reward, load_reward, reward_of
from rewards.settings import RewardSettings

BUILT_IN = tuple(reward_of(module) for module in (regression, ranking, temporal, format_reward))


def rewards_of(config: RewardSettings) -> list[Reward]:
    """The rewards of a run, each after those that it needs.

    Raises:
        RewardError: if a custom file does not load, takes the name of another reward, or needs one that is
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
    """Load every custom reward and try it on a probe cohort. Raises RewardError."""
    rewards = rewards_of(config)
    for number, path in enumerate(config.custom, start=len(BUILT_IN)):
        check_reward(rewards[number], path, rewards[:number], config)


def weight_of(reward: Reward, config: RewardSettings) -> float:
    """Its weight in the total: `rewards.NAME_weight`, or of a user's file what the file says."""
    return float(getattr(config, f"{reward.name}_weight", reward.weight))


def samples_perturbed(config: RewardSettings) -> bool:
    """Whether a reward that counts compares the clean copy with the perturbed one."""
    return any(reward.needs_perturbed and weight_of(reward, config) > 0 for reward in rewards_of(config))


def describe_rewards(config: RewardSettings) -> list[dict[str, Any]]:
    """What a run's record says of each of its rewards."""
    return [
        {
            "name": reward.name,
            "weight": weight_of(reward, config),
            "description": reward.description,
            "sha256": reward.sha256 or None,
        }
        for reward in rewards_of(config)
    ]
