"""Settings of the rewards. Importable without torch or ray."""

from pydantic import BaseModel, ConfigDict, Field


class RewardConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    actors: int = Field(2, ge=1)
    """Reward actors in the pool; each takes whole cohorts."""
    cpus_per_actor: float = Field(0.1, gt=0)
    """CPU cores that Ray reserves for one reward actor."""
    timeout_s: float = Field(60.0, gt=0)
    """Deadline of scoring one cohort."""
    sigma: float = Field(0.5, gt=0)
    """Width of the bell-shaped regression reward, in MOS points."""
    short_answer_factor: float = Field(0.8, ge=0, le=1)
    """The regression reward is multiplied by this when the answer has fewer than two decimals."""
    regression_weight: float = Field(1.0, ge=0)
    """Weight of the regression reward in the total."""
    ranking_weight: float = Field(1.0, ge=0)
    """Weight of the pairwise ranking reward in the total."""
    format_weight: float = Field(1.0, ge=0)
    """Weight of the format reward in the total."""
    temporal_weight: float = Field(1.0, ge=0)
    """Weight of the temporal consistency bonus in the total; 0 samples no perturbed copies."""
    temporal_bonus: float = Field(0.3, ge=0)
    """Bonus of each of the two conditions (ranking, regression) of the temporal reward."""
    temporal_ranking_threshold: float = Field(0.5, ge=0)
    """A completion's ranking reward must exceed this to earn the ranking half of the bonus."""
    temporal_regression_threshold: float = Field(0.9, ge=0)
    """A completion's regression reward must exceed this to earn the regression half of the bonus."""
