"""The model card of a finished run, from its records."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from cluster.config import load_config
from data.frame_tokens import FrameTokens
from data.frames import decode_video
from data.prompt import prompt_text
from monitoring.model_card import model_card
from rewards.parser import parse_score
from tests.runs import BASE

STATE = {
    "manifest_hash": "0123456789abcdef0123",
    "rewards": [{"name": "ranking", "weight": 1.0}, {"name": "format", "weight": 0.5}],
    "libraries": {"torch": "2.13.0"},
}
EVALUATIONS = [
    {"split": "test", "version": version, "videos": 40, "unparsed": 1, "failed": 2, "srcc": srcc,
     "srcc_low": srcc - 0.1, "srcc_high": srcc + 0.1, "plcc": None}
    for version, srcc in ((0, 0.25), (20, 0.5), (40, 0.75))
]  # fmt: skip


def config_with(*overrides: str) -> dict[str, Any]:
    return load_config(
        None, ["--data.manifest=/secret/sets/konvid/manifest.csv", "--run_dir=/secret/runs/one", *overrides]
    ).model_dump(mode="json")


def card_of(config: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """(front matter, text below it)."""
    _, front, text = model_card(config, STATE, EVALUATIONS, {"train": 100, "test": 40}).split("---\n", 2)
    return yaml.safe_load(front), text


def code_of(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_a_card_holds_figures_data_and_settings() -> None:
    front, text = card_of(
        config_with("--model.path=OpenGVLab/InternVL3-2B-hf", "--learner.lr=2e-5", "--model.revision=abc")
    )
    assert front["base_model"] == "OpenGVLab/InternVL3-2B-hf"
    assert (front["license"], front["license_name"]) == ("other", "set-me")
    assert (front["library_name"], front["pipeline_tag"]) == ("transformers", "video-text-to-text")
    assert "video-quality-assessment" in front["tags"]
    assert "| test | base | 40 | 0.250 (0.15 to 0.35) | – | 3 |" in text
    assert "| test | after 40 updates | 40 | 0.750 (0.65 to 0.85) | – | 3 |" in text
    assert "0.500" not in text, "only before and after"
    assert "`konvid/manifest.csv` (sha256 0123456789abcdef). Videos: train 100 (trained on), test 40." in text
    for fact in (
        "| commit of the base model | abc |",
        "| learning rate | 2e-05 |",
        "ranking 1, format 0.5",
        "torch 2.13.0",
    ):
        assert fact in text


def test_a_card_names_no_folder_of_the_machine() -> None:
    front, text = card_of(config_with("--model.path=/secret/models/our-base"))
    assert "base_model" not in front
    assert "Trained from `our-base`" in text
    assert "/secret" not in text
    cached = f"--model.path=/secret/hub/models--OpenGVLab--InternVL3-2B-hf/snapshots/{'0f' * 20}"
    assert card_of(config_with(cached))[0]["base_model"] == "OpenGVLab/InternVL3-2B-hf"


def test_a_run_without_evaluations_has_a_card() -> None:
    text = model_card(config_with(), {}, [], {"train": 100})
    assert "The run evaluated no split." in text


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], {"crop_to_patches": False}),
        (["--data.frame_tiles=4"], {"crop_to_patches": True, "min_patches": 1, "max_patches": 4}),
    ],
)
def test_options_are_those_of_the_engines(overrides: list[str], expected: dict[str, Any]) -> None:
    class Processor:
        class image_processor:
            crop_to_patches = True

    config = config_with(*overrides)
    (code, _) = code_of(card_of(config)[1])
    lines = code[code.index("OPTIONS = {}") : code.index("content = []")]
    names: dict[str, Any] = {"processor": Processor}
    exec(lines, names)
    assert names["OPTIONS"] == expected
    assert names["OPTIONS"] == FrameTokens(tiles=config["data"]["frame_tiles"]).image_options(Processor)


def test_the_snippet_for_transformers_runs_as_it_stands(
    videos: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Frames and prompt are those that the engines get, and the answer has a score."""
    frames, max_px, tokens = 4, 96, 32
    config = config_with(
        f"--data.frames_per_video={frames}", f"--data.max_frame_px={max_px}",
        f"--rollout.max_completion_tokens={tokens}",
    )  # fmt: skip
    code, for_vllm = code_of(card_of(config)[1])
    compile(for_vllm, "card", "exec")
    assert code.count('MODEL = "."') == code.count('VIDEO = "clip.mp4"') == 1
    code = code.replace('MODEL = "."', f"MODEL = {json.dumps(str(BASE))}")
    names: dict[str, Any] = {}
    exec(code.replace('VIDEO = "clip.mp4"', f"VIDEO = {json.dumps(str(videos[0]))}"), names)
    ours, _ = decode_video(videos[0], frames, max_px)
    theirs = np.stack([np.asarray(frame) for frame in names["frames"]]).astype(int)
    assert theirs.shape == ours.shape
    assert np.abs(theirs - ours).mean() < 2, "only the conversion to RGB differs"
    processor = names["processor"]
    pictures = [Image.fromarray(frame) for frame in ours]
    options = FrameTokens(largest_px=max_px).image_options(processor)
    expected = processor(text=[prompt_text(processor, frames)], images=pictures, **options)
    assert names["inputs"]["input_ids"].tolist() == [list(ids) for ids in expected["input_ids"]]
    assert names["OPTIONS"] == options
    assert parse_score(names["answer"]) is not None
    assert f"{float(names['score'][1])}" in capsys.readouterr().out
