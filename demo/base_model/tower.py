"""Pretrain the vision tower alone, to predict distortion kind and quality of single frames.

The features are far weaker if the tower is trained together with the text model from the start. Training
passes through the projector, which is pretrained, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor, nn

from data.distortions import TEMPORAL_KINDS
from demo.base_model.architecture import HIDDEN, pixel_values
from demo.base_model.clips import Clips, augment
from demo.base_model.training import Schedule, Stage, finish, step_rng, train

FRAMES_PER_STEP = 48
QUALITY_WEIGHT = 6.0
VISION_PREFIXES = ("model.vision_tower.", "model.multi_modal_projector.")


class FrameScorer(nn.Module):
    """Vision tower and projector, with a linear head on the mean feature for kind logits and quality."""

    def __init__(self, model: Any, kinds: list[str]) -> None:
        super().__init__()
        self.model = model
        self.kinds = kinds
        self.head = nn.Linear(HIDDEN, len(kinds) + 1)

    def forward(self, frames: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return kind logits [n, kinds] and quality [n], 0 (worst) to 1, of frames uint8 [..., px, px, 3]."""
        features = self.model.model.get_image_features(pixel_values=pixel_values(frames)).pooler_output
        out = self.head(features.mean(1))
        return out[:, :-1], out[:, -1]

    @torch.no_grad()
    def quality(self, frames: np.ndarray, batch: int = 32) -> np.ndarray:
        """Mean quality [n] over the frames of each clip, from frames [n, t, px, px, 3]."""
        parts = [
            self(frames[i : i + batch])[1].reshape(-1, frames.shape[1]).mean(1)
            for i in range(0, len(frames), batch)
        ]
        return torch.cat(parts).numpy()

    def trained(self) -> dict[str, nn.Parameter]:
        """The trained parameters by name: vision tower, projector, head."""
        vision = {n: p for n, p in self.model.named_parameters() if n.startswith(VISION_PREFIXES)}
        return vision | {f"head.{n}": p for n, p in self.head.named_parameters()}


def warm_up_tower(
    model: Any, clips: Clips, held_out: Mapping[str, Clips], stage: Stage, schedule: Schedule, seed: int
) -> FrameScorer:
    """Train `model`'s vision tower and projector in place on single frames of `clips`.

    Clips with a temporal distortion are left out, because single frames do not show it.

    Args:
        held_out: clips by split. Their SRCC is logged during training, and affects no decision.
    """
    clips = clips.where([kind not in TEMPORAL_KINDS for kind in clips.kinds])
    kinds = sorted(set(clips.kinds))
    torch.manual_seed(seed)
    scorer = FrameScorer(model, kinds)
    kind_index = torch.tensor([kinds.index(kind) for kind in clips.kinds])
    quality = torch.from_numpy((clips.mos - 1) / 4).to(torch.float32)

    def loss_of_step(step: int) -> tuple[Tensor, Mapping[str, float]]:
        rng = step_rng(seed, stage, step)
        rows = rng.choice(len(clips), FRAMES_PER_STEP, replace=False)
        frames = clips.frames[rows, rng.integers(clips.frames.shape[1], size=FRAMES_PER_STEP)]
        logits, predicted = scorer(augment(frames, rng))
        kind_loss = F.cross_entropy(logits, kind_index[rows])
        quality_loss = F.mse_loss(predicted, quality[rows])
        figures = {"kind_loss": kind_loss.item(), "quality_mse": quality_loss.item()}
        return kind_loss + QUALITY_WEIGHT * quality_loss, figures

    def evaluate() -> dict[str, float]:
        return {
            f"srcc_{name}": float(spearmanr(scorer.quality(those.frames), those.mos)[0])
            for name, those in held_out.items()
        }

    parameters = scorer.trained()
    train(stage, parameters, loss_of_step, schedule, weight_decay=0.02, evaluate=evaluate)
    finish(stage, parameters)
    return scorer
