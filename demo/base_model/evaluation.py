"""Measure how well the tiny base model's scores agree with labels: greedy scores, and means of samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from demo.base_model.architecture import N_FRAMES
from demo.base_model.clips import Clips
from demo.base_model.decoding import embed_prompts, prompt_token_ids, sample_answers
from evaluation.statistics.correlation import plcc, srcc
from evaluation.statistics.intervals import unfitted_agreement
from rewards.parser import parse_score

CLIPS_PER_BATCH = 16
SAMPLES = 8


def answers_of(
    model: Any, processor: Any, clips: Clips, n_answers: int, temperature: float, seed: int = 0
) -> list[list[str]]:
    """Sample `n_answers` answers to each clip; returns their texts by clip."""
    prompt_ids = prompt_token_ids(processor, N_FRAMES)
    texts: list[list[str]] = []
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for start in range(0, len(clips), CLIPS_PER_BATCH):
            prompts = embed_prompts(model, prompt_ids, clips.frames[start : start + CLIPS_PER_BATCH])
            ids = sample_answers(model, processor, prompts, n_answers, temperature)
            texts += [processor.tokenizer.batch_decode(rows, skip_special_tokens=True) for rows in ids]
    return texts


def scores_of(texts: list[list[str]]) -> np.ndarray:
    """Parse the scores [n_clips, n_answers]; NaN for answers that do not parse."""
    parsed = [[parse_score(text) for text in row] for row in texts]
    return np.array([[np.nan if p is None else p.score for p in row] for row in parsed])


def evaluate(model: Any, processor: Any, clips: Clips, seed: int = 0) -> dict[str, float]:
    """Measure how well the scores of `model` agree with labels. Clips without a parsed score are left out.

    `srcc`, with a 95 % interval bootstrapped over sources, and `plcc` (unfitted) use greedy scores.
    `mean_srcc` and `mean_plcc` use the means of `SAMPLES` sampled scores.
    """
    greedy = scores_of(answers_of(model, processor, clips, 1, temperature=0.0))[:, 0]
    sampled = scores_of(answers_of(model, processor, clips, SAMPLES, temperature=1.0, seed=seed))
    counted = np.maximum((~np.isnan(sampled)).sum(1), 1)
    mean = np.where(np.isnan(sampled).all(1), np.nan, np.nansum(sampled, 1) / counted)
    centred = np.nan_to_num(sampled - mean[:, None])
    greedily = unfitted_agreement(greedy, clips.mos, np.array(clips.sources))
    return {
        "videos": len(clips),
        "srcc": round(greedily["srcc"], 4),
        "srcc_low": greedily["srcc_low"],
        "srcc_high": greedily["srcc_high"],
        "plcc": round(greedily["plcc"], 4),
        "mean_srcc": _agreement(srcc, mean, clips.mos),
        "mean_plcc": _agreement(plcc, mean, clips.mos),
        "unparsed_ratio": float(np.isnan(sampled).mean()),
        "spread": float(np.sqrt((centred**2).sum(1) / counted).mean()),
    }


def _agreement(measure: Any, predicted: np.ndarray, mos: np.ndarray) -> float:
    known = ~np.isnan(predicted)
    return round(float(measure(predicted[known], mos[known])), 4)
