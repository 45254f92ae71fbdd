"""Label the demo's clips from 1 (very poor) to 5 (excellent).

For distortions that VMAF detects, the label is a function of VMAF. VMAF measures only luma, hardly responds
to changes in brightness, and is wrong for frozen and reordered frames. Such distortions are labelled by a
formula of their strength.
"""

from collections.abc import Sequence

import numpy as np

from data.distortions import FORMULA_KINDS
from demo.clips.contents import CLIP_FRAMES

SAMPLED = tuple(int((i + 0.5) * CLIP_FRAMES / 4) for i in range(4))
"""Indices of the frames that the tiny base model is shown: the middle frame of each of four segments."""

_VISIBLE_DIFFERENCE = 2.0
"""Mean absolute difference between two frames, in grey levels, above which motion counts as visible."""

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def vmaf_scores(
    pristine: Sequence[np.ndarray], distorted: Sequence[np.ndarray], batch_frames: int = 256
) -> np.ndarray:
    """Compute the VMAF of each clip, as the mean over its frames.

    The motion feature is disabled, so that each frame is scored independently.

    Args:
        pristine, distorted: clips, uint8 [T, H, W, 3], all with the same shape.
        batch_frames: number of frames per batch.
    Returns:
        float64 [n].
    """
    import torch
    from vmaf_torch import VMAF

    metric = VMAF(enable_motion=False).eval()
    reference, tested = (np.concatenate(clips).astype(np.float32) @ _LUMA for clips in (pristine, distorted))
    scores = []
    with torch.inference_mode():
        for start in range(0, len(reference), batch_frames):
            batch = [
                torch.from_numpy(luma[start : start + batch_frames, None]) for luma in (reference, tested)
            ]
            scores.append(metric(*batch).flatten().double().numpy())
    return np.concatenate(scores).reshape(len(pristine), -1).mean(1)


def mos_from_vmaf(vmaf: float) -> float:
    """Map VMAF to a label: 1 + 4 (v / 95)^0.8, where v is the VMAF clipped to 0 to 95.

    The function is monotone and reaches 5 at VMAF 95, above which differences are not visible. The exponent
    spreads the labels over the scale.
    """
    return 1.0 + 4.0 * (min(max(vmaf, 0.0), 95.0) / 95.0) ** 0.8


def mos_by_formula(strength: float) -> float:
    """Map a strength from 0 to 1 to a label: 5 - 4 * strength."""
    return 5.0 - 4.0 * strength


def label(kind: str, strength: float, vmaf: float) -> tuple[float, str]:
    """Label a clip; returns (label, "vmaf" or "formula")."""
    if kind in FORMULA_KINDS:
        return mos_by_formula(strength), "formula"
    return mos_from_vmaf(vmaf), "vmaf"


def sampled_frames_show(pristine: np.ndarray, distorted: np.ndarray) -> bool:
    """Whether a temporal distortion is visible in the frames at SAMPLED: two neighbouring frames are equal,
    although the same frames of the pristine clip differ visibly."""
    sampled = list(SAMPLED)
    moved = np.abs(np.diff(pristine[sampled].astype(np.float32), axis=0)).mean((1, 2, 3))
    still = np.abs(np.diff(distorted[sampled].astype(np.float32), axis=0)).mean((1, 2, 3))
    return bool(np.any((still == 0) & (moved > _VISIBLE_DIFFERENCE)))
