"""Settings of the rewards, including their weights. Importable without torch or ray."""

from typing import TYPE_CHECKING

from pydantic import Field, create_model

from rewards.registry import BUILT_IN
from rewards.settings import RewardSettings

if TYPE_CHECKING:
    _WithWeights = RewardSettings
else:
    _WithWeights = create_model(
        "_WithWeights",
        __base__=RewardSettings,
        **{
            f"{reward.name}_weight": (
                float,
                Field(
                    reward.weight,
                    ge=0,
                    description=f"Weight of the {reward.name} reward in the total: {reward.description}",
                ),
            )
            for reward in BUILT_IN
        },
    )


class RewardConfig(_WithWeights):
    """The reward settings, with a field `NAME_weight` for every built-in reward."""
