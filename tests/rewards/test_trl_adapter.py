"""The rewards in TRL's own signature, and in a real GRPOTrainer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.prompt import FORMAT, QUESTION, TASK
from rewards.cohort import CohortTexts, score_cohort
from rewards.config import RewardConfig
from rewards.registry import BUILT_IN
from rewards.trl import reward_functions
from tests.conftest import moving_frames

COMPONENTS = [reward.name for reward in BUILT_IN]
SHIPPED = Path(__file__).resolve().parents[2] / "demo" / "tiny-internvl"
# What TRL hands to every reward function besides the dataset's columns.
FROM_TRL: dict[str, Any] = {
    "completion_ids": [[1]],
    "trainer_state": None,
    "log_extra": print,
    "log_metric": print,
}


def answer(score: float) -> str:
    return f"<think>sharp</think><answer>{score:.2f}</answer>"


# Two videos with three completions each, as TRL repeats a dataset's rows.
TEXTS = [answer(2.0), answer(2.6), "no answer", answer(4.0), answer(3.1), answer(1.0)]
COLUMNS: dict[str, Any] = {"video_id": ["a"] * 3 + ["b"] * 3, "mos": [2.0] * 3 + [4.0] * 3}


def named(*components: str, **given: Any) -> list[Callable[..., list[float]]]:
    return reward_functions(components=components, **given)


def call(function: Callable[..., list[float]], completions: list[Any], **columns: Any) -> list[float]:
    return function(prompts=["?"] * len(completions), completions=completions, **FROM_TRL | columns)


def test_each_function_returns_its_component_of_the_cohort() -> None:
    table = score_cohort(
        CohortTexts([2.0, 4.0], ["", ""], [False] * 2, [TEXTS[:3], TEXTS[3:]], [None] * 2), RewardConfig()
    )
    for function, name in zip(reward_functions(), ("format", "regression", "ranking"), strict=True):
        assert function.__name__ == f"{name}_reward"
        found = call(function, TEXTS, **COLUMNS)
        assert found == pytest.approx([*table.rewards[name][0], *table.rewards[name][1]])
        assert found[2] == 0, "what does not parse earns nothing"


def test_a_conversation_is_worth_what_its_text_is() -> None:
    as_messages = [[{"role": "assistant", "content": text}] for text in TEXTS]
    as_parts = [[{"role": "assistant", "content": [{"type": "text", "text": text}]}] for text in TEXTS]
    for function in reward_functions():
        expected = call(function, TEXTS, **COLUMNS)
        assert call(function, as_messages, **COLUMNS) == expected
        assert call(function, as_parts, **COLUMNS) == expected


def test_groups_are_told_apart_by_video_wherever_their_completions_stand() -> None:
    (ranking,) = named("ranking")
    order = [3, 0, 4, 1, 5, 2]
    mixed = {name: [values[i] for i in order] for name, values in COLUMNS.items()}
    expected = call(ranking, TEXTS, **COLUMNS)
    assert call(ranking, [TEXTS[i] for i in order], **mixed) == pytest.approx([expected[i] for i in order])


def test_without_ids_groups_follow_one_another() -> None:
    (ranking,) = named("ranking", num_generations=3)
    (by_id,) = named("ranking")
    assert call(ranking, TEXTS, mos=COLUMNS["mos"]) == call(by_id, TEXTS, **COLUMNS)


def test_label_sets_and_rank_only_rows() -> None:
    regression, ranking = named("regression", "ranking")
    apart = COLUMNS | {"label_set": ["x"] * 3 + ["y"] * 3}
    assert call(ranking, TEXTS, **apart) == [0] * 6
    assert call(regression, TEXTS, **COLUMNS | {"rank_only": [True] * 6}) == [0] * 6


def test_the_temporal_reward_compares_with_the_rows_of_the_perturbed_copy() -> None:
    (temporal, regression) = named("temporal", "regression")
    worse = [answer(4.9), answer(1.1)]
    columns = {
        "video_id": [*COLUMNS["video_id"], "a", "b"],
        "mos": [*COLUMNS["mos"], 2.0, 4.0],
        "perturbed": [False] * 6 + [True] * 2,
    }
    found = call(temporal, TEXTS + worse, **columns)
    assert found[0] == pytest.approx(0.6)
    assert found[2] == 0
    assert found[6:] == [0, 0]
    assert call(regression, TEXTS + worse, **columns)[6:] == [0, 0]


def test_bad_data_is_refused_with_the_cure() -> None:
    (ranking,) = named("ranking")
    with pytest.raises(ValueError, match="no column mos: add each video's label"):
        call(ranking, TEXTS, video_id=COLUMNS["video_id"])
    with pytest.raises(ValueError, match="add a column video_id, or give num_generations"):
        call(ranking, TEXTS, mos=COLUMNS["mos"])
    with pytest.raises(ValueError, match=r"'a' has different labels in column mos: \[2.0, 3.0\]"):
        call(ranking, TEXTS[:2], video_id=["a", "a"], mos=[2.0, 3.0])
    with pytest.raises(ValueError, match="needs rows with perturbed=true"):
        call(named("temporal")[0], TEXTS, **COLUMNS)
    with pytest.raises(ValueError, match=f"unknown components beauty; known are {', '.join(COMPONENTS)}"):
        reward_functions(components=["beauty"])


def test_a_real_trainer_takes_steps_on_the_rewards(tmp_path: Path) -> None:
    """The tiny base sees moving frames, and the same ones reversed, through TRL's own path for images."""
    import datasets
    import trl
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    def row(number: int, perturbed: bool) -> dict[str, Any]:
        frames = moving_frames(4, px=96, seed=number)[:: -1 if perturbed else 1]
        return {
            "prompt": [{"role": "user", "content": f"{TASK} {QUESTION} {FORMAT}"}],
            "images": [Image.fromarray(frame) for frame in frames],
            "video_id": f"video-{number}",
            "mos": 1.0 + number,
            "perturbed": perturbed,
        }

    calls: list[int] = []

    def counted(function: Callable[..., list[float]]) -> Callable[..., list[float]]:
        def count(**given: Any) -> list[float]:
            calls.append(len(given["completions"]))
            return function(**given)

        count.__name__ = function.__name__
        return count

    model = AutoModelForImageTextToText.from_pretrained(SHIPPED)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = trl.GRPOTrainer(
        model=model,
        processing_class=AutoProcessor.from_pretrained(SHIPPED),
        reward_funcs=[counted(f) for f in named(*COMPONENTS)],
        train_dataset=datasets.Dataset.from_list(
            [row(n, perturbed) for n in range(2) for perturbed in (False, True)]
        ),
        args=trl.GRPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=8,
            num_generations=2,
            max_steps=2,
            max_completion_length=32,
            learning_rate=1e-3,
            shuffle_dataset=False,
            use_cpu=True,
            bf16=False,
            logging_steps=1,
            report_to=[],
            save_strategy="no",
        ),
    )
    trainer.train()
    logs = [log for log in trainer.state.log_history if "reward" in log]
    assert len(logs) == 2
    assert calls == [8] * 2 * len(COMPONENTS)
    for name in COMPONENTS:
        assert f"rewards/{name}_reward/mean" in logs[0]
    assert logs[0]["rewards/format_reward/mean"] > 0.3, "half of the rows are perturbed copies, and earn 0"
    assert any(not before[name].equal(p) for name, p in model.named_parameters())
