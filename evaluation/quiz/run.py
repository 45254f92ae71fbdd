"""Ask a model the questions of a quiz set, and grade its answers by the set's rules (`launch.py quiz`)."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.video_file import VideoError
from evaluation.models import Checkpoint, fingerprint, resolve_checkpoint, scoring_settings
from evaluation.quiz.asking import Sampler, ask, reference
from evaluation.quiz.folder import QuizFolder
from evaluation.quiz.grading import final_answer, grade_choice
from evaluation.quiz.item import QuizItem
from evaluation.quiz.llm_judge import Judge
from evaluation.quiz.results import QuizResults, as_json, results_of
from evaluation.quiz.sets import read_quiz
from evaluation.settings import ScoringSettings
from rollout.errors import RolloutFailed
from runtime.concurrently import concurrently

GRADED_AT_ONCE = 4
# Settings that affect an answer, besides model and question.
_OF_ANSWERS = {
    "frames_per_video", "max_frame_px", "max_completion_tokens", "max_model_tokens", "decoder", "exact",
}  # fmt: skip

Progress = Callable[[int, int], None]
"""Reports progress; takes (questions done, questions in total)."""
ProgressBar = Callable[[str], contextlib.AbstractContextManager[Progress]]
"""Opens a progress display; takes its title."""


@dataclass(frozen=True, slots=True)
class QuizJob:
    """The checked input of one `launch.py quiz` command."""

    name: str
    items: list[QuizItem]
    checkpoint: Checkpoint
    settings: ScoringSettings
    out: Path
    depends_on: dict[str, Any]
    """Everything that affects the answers, as JSON values."""


def read_quiz_job(
    name: str,
    files: Sequence[Path],
    videos: Path,
    out: Path | None,
    checkpoint: str | None,
    **overrides: Any,
) -> QuizJob:
    """Read the quiz set and find the model.

    Without `out`, the folder's name contains a hash of everything that affects the answers, so that the same
    command resumes in the same folder.

    Raises QuizError or ConfigError.
    """
    items = read_quiz(name, files, videos)
    model = resolve_checkpoint(checkpoint)
    settings = scoring_settings(model, **overrides)
    for item in items:
        reference(item.item_id, item.videos, settings.frames_per_video)
    depends_on = settings.model_dump(mode="json", include=_OF_ANSWERS) | {
        "set": name,
        "files": {file.name: _sha256(file.read_bytes()) for file in files},
        "model": fingerprint(model.path),
    }
    default = Path("runs") / f"quiz-{name}-{_sha256(json.dumps(depends_on, sort_keys=True).encode())[:8]}"
    return QuizJob(name, items, model, settings, out or default, depends_on)


def run_quiz(job: QuizJob, judge: Judge | None, progress_bar: ProgressBar) -> QuizResults:
    """Ask the questions that are unanswered or failed before; grade open answers if there is a judge.

    Raises ConfigError, ScoringFailed or JudgeError. Answers received before the error are kept.
    """
    with QuizFolder(job.out, job.depends_on) as folder:
        answered = {id_ for id_, row in folder.predictions.items() if not row["failure"]}
        todo = [item for item in job.items if item.item_id not in answered]
        if todo:
            with progress_bar("asking") as progress:
                asyncio.run(_ask_all(job.settings, todo, folder, len(job.items), progress))
        open_answers = [
            _open_answer(item, folder.predictions[item.item_id])
            for item in job.items
            if item.rule == "judged" and not folder.predictions[item.item_id]["failure"]
        ]
        folder.write_open_answers(open_answers)
        if judge is not None:
            with progress_bar("grading open answers") as progress:
                asyncio.run(_grade_all(judge, open_answers, folder, progress))
        results = results_of(job.items, folder.predictions, folder.judgements)
        head = {"set": job.name, "checkpoint": job.checkpoint.name, "settings": job.depends_on}
        folder.write_results(head | as_json(results))
        return results


async def _ask_all(
    settings: ScoringSettings, items: Sequence[QuizItem], folder: QuizFolder, total: int, progress: Progress
) -> None:
    from evaluation.scorer import Scorer

    progress(total - len(items), total)
    async with Scorer(settings) as scorer:
        limit = settings.videos_in_flight * scorer.replicas
        async with contextlib.aclosing(
            concurrently(items, lambda item: answer_row(scorer, item), limit)
        ) as rows:
            done = total - len(items)
            async for row in rows:
                folder.add_prediction(row)
                done += 1
                progress(done, total)


async def answer_row(sampler: Sampler, item: QuizItem) -> dict[str, Any]:
    """Ask one question with greedy decoding; returns its row for predictions.jsonl.

    If a video cannot be decoded or no engine answers, the row has a `failure` instead of a text.
    """
    row: dict[str, Any] = {
        "id": item.item_id, "videos": list(item.videos), "question_type": item.question_type,
        "text": "", "finish_reason": "", "said": None, "right": False, "failure": "",
    }  # fmt: skip
    try:
        ref = reference(item.item_id, item.videos, sampler.settings.frames_per_video)
        asked = await ask(sampler, ref, item.prompt)
    except (VideoError, RolloutFailed) as error:
        return row | {"failure": str(error)}
    row |= {"text": asked.text, "finish_reason": asked.finish_reason}
    if item.rule == "judged":
        return row | {"right": None}
    verdict = grade_choice(item, asked.text)
    return row | {"said": verdict.said, "right": verdict.right}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _open_answer(item: QuizItem, row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": item.item_id,
        "videos": list(item.videos),
        "question": item.question,
        "reference": item.reference,
        "answer": final_answer(row["text"]) or row["text"],
    }


async def _grade_all(
    judge: Judge, answers: Sequence[dict[str, Any]], folder: QuizFolder, progress: Progress
) -> None:
    """Grade the answers that this judge has not graded. An answer that has changed is graded again."""

    def is_of(answer: dict[str, Any]) -> bool:
        before = folder.judgements.get(answer["id"])
        return before is not None and (before["answer"], before["judge"]) == (answer["answer"], judge.model)

    async def grade(answer: dict[str, Any]) -> dict[str, Any]:
        grades = await judge.grades(answer["question"], answer["reference"], answer["answer"])
        return {"id": answer["id"], "answer": answer["answer"], "judge": judge.model, "grades": grades}

    todo = [answer for answer in answers if not is_of(answer)]
    done = len(answers) - len(todo)
    async with contextlib.aclosing(concurrently(todo, grade, GRADED_AT_ONCE)) as rows:
        async for row in rows:
            folder.add_judgement(row)
            done += 1
            progress(done, len(answers))
