"""Settings of the rewards, except for their weights. Importable without torch or ray."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field


class RewardSettings(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    actors: int = Field(2, ge=1)
    """Number of reward actors. Each scores whole cohorts."""
    cpus_per_actor: float = Field(0.1, gt=0)
    """CPU cores that Ray reserves for one reward actor."""
    timeout_s: float = Field(60.0, gt=0)
    """Deadline for scoring one cohort."""
    sigma: float = Field(0.5, gt=0)
    """Width of the bell-shaped regression reward, in MOS points."""
    short_answer_factor: float = Field(0.8, ge=0, le=1)
    """Factor of the regression reward for scores with fewer than two decimals."""
    temporal_bonus: float = Field(0.3, ge=0)
    """Bonus of the temporal reward for each of its two conditions (ranking, regression)."""
    temporal_ranking_threshold: float = Field(0.5, ge=0)
    """A completion earns the temporal bonus for ranking only if its ranking reward exceeds this."""
    temporal_regression_threshold: float = Field(0.9, ge=0)
    """A completion earns the temporal bonus for regression only if its regression reward exceeds this."""
    custom: list[str] = Field([])
    """Files with custom rewards, described in docs/method.md. Each file sets its weight, and runs as Python
    code on the reward actors."""
    custom_texts: dict[str, str] = Field({})
    """Content of each file in `custom`, by path. It is filled in when a run starts, so that a resumed run
    uses the same rewards."""

    def with_custom_texts(self) -> Self:
        """Return the settings with absolute paths, and the content of every custom file. Files whose content
        is already in `custom_texts` are not read again.

        Raises:
            OSError: if a file cannot be read.
        """
        texts, paths = dict(self.custom_texts), []
        for path in self.custom:
            if path not in texts:
                path = str(Path(path).expanduser().absolute())
                texts[path] = Path(path).read_text(encoding="utf-8")
            paths.append(path)
        return self.model_copy(update={"custom": paths, "custom_texts": {p: texts[p] for p in paths}})
