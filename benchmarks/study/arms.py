"""The arms of the study, each as settings of a run. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data.records import Video

PRESET = Path("configs/demo.toml")
# `updates` alone says when a run ends: some arms have fewer cohorts in an epoch than others.
EPOCHS = 100
EVALUATE_EVERY_UPDATES = 10
CHECKPOINT_EVERY_UPDATES = 20


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train. `settings` are its overrides of the preset; `ladders` trains on distortion ladders,
    which are only an order; `supervised` fine-tunes on answers with the labels, without rewards, and has its
    program's arguments as settings."""

    name: str
    title: str
    settings: tuple[str, ...] = ()
    ladders: bool = False
    supervised: bool = False


def _without(*rewards: str) -> tuple[str, ...]:
    return tuple(f"--rewards.{reward}_weight=0" for reward in rewards)


REWARD_ARMS = (
    Arm("format", "format only", _without("regression", "ranking", "temporal")),
    Arm("format+regression", "format, regression", _without("ranking", "temporal")),
    Arm("format+ranking", "format, ranking", _without("regression", "temporal")),
    Arm("format+regression+ranking", "format, regression, ranking", _without("temporal")),
    Arm("all", "all: with temporal consistency"),
    Arm("ladders", "all, from ladders alone: no scores", ladders=True),
    Arm("supervised-scores", "supervised fine-tuning on the scores", ("--scores-only",), supervised=True),
    Arm("supervised", "supervised fine-tuning on scores and right words", supervised=True),
)
# 0.04 is what the preset has.
KL_ARMS = {
    0.0: Arm("kl-0", "all, KL coefficient 0", ("--learner.kl_coefficient=0",)),
    0.01: Arm("kl-0.01", "all, KL coefficient 0.01", ("--learner.kl_coefficient=0.01",)),
    0.04: REWARD_ARMS[4],
    0.1: Arm("kl-0.1", "all, KL coefficient 0.1", ("--learner.kl_coefficient=0.1",)),
}
ARMS = {arm.name: arm for arm in (*REWARD_ARMS, *KL_ARMS.values())}


@dataclass(frozen=True, slots=True)
class Run:
    """One arm with one seed."""

    arm: Arm
    seed: int

    @property
    def name(self) -> str:
        return f"{self.arm.name}-seed{self.seed}"

    def overrides(self, updates: int, ladders: Path) -> list[str]:
        """What the run changes of the preset, its folder apart. `ladders`: manifest of the ladders, with the
        preset's own clips to judge on."""
        return [
            f"--seed={self.seed}",
            f"--schedule.updates={updates}",
            f"--schedule.epochs={EPOCHS}",
            f"--evaluation.every_updates={EVALUATE_EVERY_UPDATES}",
            f"--checkpoint.every_updates={CHECKPOINT_EVERY_UPDATES}",
            "--checkpoint.keep_last=1",
            "--metrics.tensorboard=false",
            *([f"--data.manifest={ladders}", "--data.root=demo/built"] if self.arm.ladders else []),
            *self.arm.settings,
        ]


def plan(arms: Sequence[str] | None, seeds: Sequence[int]) -> list[Run]:
    """The runs, seed by seed, so that a study cut short has all arms of its first seeds.

    Raises ValueError for an unknown arm.
    """
    unknown = [name for name in arms or () if name not in ARMS]
    if unknown:
        raise ValueError(f"unknown arms {', '.join(unknown)}: there are {', '.join(ARMS)}")
    return [Run(arm, seed) for seed in seeds for name, arm in ARMS.items() if arms is None or name in arms]


def ladder_table(videos: Sequence[Video], root: Path) -> pd.DataFrame:
    """The manifest of the ladders arm: clips of one content with one kind of distortion are a label set, in
    the order of the strength that was applied.

    Nothing of the train split's scores is left in it: `mos` falls with the strength from 5 to 1, and is an
    order only. Train clips whose content appears with no other strength of the kind are left out; the other
    splits stay as they are.

    Args:
        root: what paths are made relative to.
    """
    rows = []
    for video in videos:
        row = {
            "video_id": video.video_id,
            "path": str(Path(video.path).relative_to(root)),
            "mos": video.mos,
            "split": video.split,
            "source": video.source,
            "label_set": video.label_set,
            "rank_only": False,
            "headline": video.headline,
            "distortion": video.distortion,
            "strength": video.strength,
        }
        if video.split == "train":
            assert video.strength is not None, f"{video.video_id} has no strength to be ordered by"
            row |= {
                "mos": 5 - 4 * video.strength,
                "label_set": f"{video.source}/{video.distortion}",
                "rank_only": True,
            }
        rows.append(row)
    table = pd.DataFrame(rows)
    members = table.groupby(["split", "label_set"])["path"].transform("size")
    return table[(table["split"] != "train") | (members > 1)]
