"""The model card of a run's `final/`: README.md with the metadata that the Hugging Face hub reads."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from data.hub import hub_name_of
from data.model_view import ModelView, view_of_run
from data.prompt import messages
from monitoring.run_dir import RunDirectory
from runtime.files import naming_file, write_atomically

FILE_NAME = "README.md"

_CARD = Template(
    """\
---
license: other
license_name: set-me # the base model's licence and the videos' decide
$base_field
library_name: transformers
pipeline_tag: video-text-to-text
tags:
- video-quality-assessment
- grpo
- vllm
---

# $name

Scores the quality of a video from 1 (very poor) to 5 (excellent), with its reasoning in `<think>` and the
score in `<answer>`. Trained from `$base` by GRPO on mean opinion scores (MOS) with vqathinker-ray.

## Figures

$figures

## Data

$data

## Settings

$settings

## How to score

With vqathinker-ray, which also handles non-square pixels, rotation, damaged files and many videos at once:

```sh
python launch.py score clip.mp4 --checkpoint FOLDER --samples 8
```

With transformers:

```python
$frames_code
$transformers_code
```

With vLLM; `frames`, `processor`, `prompt` and `OPTIONS` as above:

```python
$vllm_code
```

Other numbers or sizes of frames change the scores.
"""
)

_FRAMES_CODE = Template(
    """\
import re

import av
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

MODEL = "."  # this folder, or its name on the hub
VIDEO = "clip.mp4"
N_FRAMES, MAX_PX, MAX_TOKENS = $n_frames, $max_px, $max_tokens


def read_frames(path):
    \"\"\"The middle frame of each of N_FRAMES equal parts, its longer side at most MAX_PX.\"\"\"
    with av.open(path) as file:
        count = sum(1 for _ in file.decode(video=0))
    wanted = [int((part + 0.5) * count / N_FRAMES) for part in range(N_FRAMES)]
    with av.open(path) as file:
        kept = {n: frame.to_image() for n, frame in enumerate(file.decode(video=0)) if n in wanted}
    scale = min(1, MAX_PX / max(kept[wanted[0]].size))
    size = [max(1, round(edge * scale)) for edge in kept[wanted[0]].size]
    return [kept[n].resize(size, Image.Resampling.LANCZOS) for n in wanted]


frames = read_frames(VIDEO)
processor = AutoProcessor.from_pretrained(MODEL)
OPTIONS = {}  # how a frame becomes tokens
$options
content = []
for number in range(1, N_FRAMES + 1):
    content += [{"type": "text", "text": f"Frame{number}: "}, {"type": "image"}]
content.append({"type": "text", "text": $question})
prompt = processor.apply_chat_template(
    [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
).removesuffix("<think>\\n")
"""
)

_TRANSFORMERS_CODE = """\
inputs = processor(text=[prompt], images=frames, return_tensors="pt", **OPTIONS)
model = AutoModelForImageTextToText.from_pretrained(MODEL, dtype="auto")
model = model.to("cuda" if torch.cuda.is_available() else "cpu")
output = model.generate(**inputs.to(model.device, model.dtype), do_sample=False, max_new_tokens=MAX_TOKENS)
answer = processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
score = re.search(r"<answer>\\s*([\\d.]+)\\s*</answer>", answer)
print(answer, float(score[1]) if score else "no score")"""

_VLLM_CODE = Template(
    """\
from vllm import LLM, SamplingParams

llm = LLM(
    MODEL,
    max_model_len=$max_model_tokens,
    limit_mm_per_prompt={"image": N_FRAMES},
    mm_processor_kwargs=OPTIONS,
)
(request,) = llm.generate(
    {"prompt": prompt, "multi_modal_data": {"image": frames}},
    SamplingParams(temperature=0, max_tokens=MAX_TOKENS),
)
print(request.outputs[0].text)"""
)


def write_model_card(run: RunDirectory, config: Mapping[str, Any], videos: Mapping[str, int]) -> None:
    """Write the card of a finished run into its `final/`.

    Args:
        config, videos: as in model_card.
    """
    card = model_card(config, run.state(), list(run.read_lines("evaluations")), videos)
    path = run.final / FILE_NAME
    with naming_file(path):
        write_atomically(path, card)


def model_card(
    config: Mapping[str, Any],
    state: Mapping[str, Any],
    evaluations: Sequence[Mapping[str, Any]],
    videos: Mapping[str, int],
) -> str:
    """The card's text. No path of this machine is in it: a local base model or manifest is named without its
    folders.

    Args:
        config: the run's resolved configuration, as JSON values.
        state: the run's run.json.
        evaluations: the records of its evaluations.jsonl.
        videos: the manifest's videos of each split that the run used.
    """
    base, is_on_hub = _base(config["model"]["path"])
    view = view_of_run(config)
    return _CARD.substitute(
        name=config["name"],
        base=base,
        base_field=f"base_model: {base}" if is_on_hub else "# base_model: set me: its name on the hub",
        figures=_figures(evaluations),
        data=_data(config, state, videos),
        settings=_settings(config, state, view),
        frames_code=_FRAMES_CODE.substitute(
            n_frames=view.frames_per_video,
            max_px=view.max_frame_px,
            max_tokens=view.max_completion_tokens,
            options="\n".join(_options(view)),
            question=json.dumps(messages(1)[0]["content"][-1]["text"]),
        ),
        transformers_code=_TRANSFORMERS_CODE,
        vllm_code=_VLLM_CODE.substitute(max_model_tokens=view.max_model_tokens),
    )


def _base(path: str) -> tuple[str, bool]:
    """(name of the base model, whether that is a hub name)."""
    if name := hub_name_of(path):
        return name, True
    return (Path(path).name, False) if Path(path).is_absolute() else (path, True)


def _options(view: ModelView) -> list[str]:
    """Code that sets OPTIONS as `FrameTokens.image_options` does."""
    tiles = view.frame_tiles
    if tiles > 1:
        options = {"crop_to_patches": True, "min_patches": 1, "max_patches": tiles}
        return [f"OPTIONS |= {options}"]
    lines = ['if hasattr(processor.image_processor, "crop_to_patches"):']
    lines.append('    OPTIONS |= {"crop_to_patches": False}')
    limits = {"shortest_edge": view.frame_min_pixels, "longest_edge": view.frame_max_pixels}
    given = {name: pixels for name, pixels in limits.items() if pixels is not None}
    if given:
        lines.append(f'OPTIONS["size"] = dict(processor.image_processor.size) | {given}')
    return lines


def _figures(evaluations: Sequence[Mapping[str, Any]]) -> str:
    if not evaluations:
        return "The run evaluated no split."
    last = max(e["version"] for e in evaluations)
    lines = [
        "| split | model | videos | SRCC (95 % interval) | PLCC | without a score |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for split in dict.fromkeys(e["split"] for e in evaluations):
        for e in evaluations:
            if e["split"] == split and e["version"] in (0, last):
                model = f"after {last} updates" if e["version"] else "base"
                lines.append(
                    f"| {_cell(split)} | {model} | {e['videos']} | {_srcc(e)} | {_number(e.get('plcc'))} | "
                    f"{e['unparsed'] + e['failed']} |"
                )
    lines += [
        "",
        "Greedy answers against MOS. Intervals are bootstrapped over sources; PLCC is without a fit.",
    ]
    return "\n".join(lines)


def _srcc(evaluation: Mapping[str, Any]) -> str:
    low, high = evaluation.get("srcc_low"), evaluation.get("srcc_high")
    interval = "" if low is None or high is None else f" ({low:.2f} to {high:.2f})"
    return f"{_number(evaluation.get('srcc'))}{interval}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _data(config: Mapping[str, Any], state: Mapping[str, Any], videos: Mapping[str, int]) -> str:
    manifest = Path(config["data"]["manifest"])
    digest = f" (sha256 {state['manifest_hash'][:16]})" if state.get("manifest_hash") else ""
    trained = config["data"]["train_split"]
    splits = [
        f"{_cell(split)} {count}{' (trained on)' if split == trained else ''}"
        for split, count in videos.items()
    ]
    return f"Manifest `{manifest.parent.name}/{manifest.name}`{digest}. Videos: {', '.join(splits)}."


def _settings(config: Mapping[str, Any], state: Mapping[str, Any], view: ModelView) -> str:
    schedule, learner = config["schedule"], config["learner"]
    rewards = ", ".join(f"{r['name']} {r['weight']:g}" for r in state.get("rewards", ()))
    libraries = ", ".join(f"{name} {version}" for name, version in state.get("libraries", {}).items())
    rows = {
        "commit of the base model": config["model"]["revision"] or "not recorded",
        "frames of a video": f"{view.frames_per_video}, longer side at most {view.max_frame_px} px",
        "longest answer, tokens": view.max_completion_tokens,
        "videos of a cohort, cohorts of an update": (
            f"{schedule['videos_per_cohort']}, {schedule['cohorts_per_update']}"
        ),
        "answers to a video": schedule["completions_per_video"],
        "largest staleness": schedule["max_staleness"],
        "sampling temperature": config["rollout"]["temperature"],
        "learning rate": learner["lr"],
        "KL coefficient": learner["kl_coefficient"],
        "LoRA": "no" if learner["lora"] is None else f"rank {learner['lora']['rank']}",
        "rewards and weights": rewards or "not recorded",
        "seed": config["seed"],
        "libraries": libraries or "not recorded",
    }
    return "\n".join(
        [
            "| setting | |",
            "| --- | --- |",
            *(f"| {name} | {_cell(str(value))} |" for name, value in rows.items()),
        ]
    )


def _cell(text: str) -> str:
    """Text for a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")
