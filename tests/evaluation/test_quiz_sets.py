"""Reading the files of public sets of questions, well-formed and not."""

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.quiz.item import QuizError, QuizItem
from evaluation.quiz.sets import read_quiz

CHOICE = "Please select one distortion type from below options{A:[None], B:[lagging]}Just answer the letter."
YES_NO = (
    "If there is no color distortion in the video, please answer [No].If there is one, please answer [Yes]."
)


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def qbench(**changes: Any) -> dict[str, Any]:
    return {
        "video_name": "a.mp4", "question": "How sharp is it?", "answers": ["Good", "Poor", "Bad"],
        "video_type": "AIGC", "question_type": "what/how", "context": "Global", "correct_choice": "B",
    } | changes  # fmt: skip


def finevq(question: str, answer: str, video: str = "a.mp4", role: str = "ai") -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": role, "value": answer}]
    return {"video": video, "conversations": turns}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (folder / name).touch()
    return folder


def read_one(name: str, root: Path, entry: Any) -> QuizItem:
    (item,) = read_quiz(name, [write(root.parent / "set.json", [entry])], root)
    return item


def test_q_bench_video(root: Path) -> None:
    item = read_one("q-bench-video", root, qbench(concern=["Technical", "Temporal"]))
    assert item.videos == (str(root / "a.mp4"),)
    assert (item.item_id, item.correct, item.rule, item.letters) == ("set.json:1", "B", "first_letter", "ABC")
    assert item.concerns == ("Technical", "Temporal")
    assert (item.question_type, item.video_type, item.context) == ("what/how", "AIGC", "Global")
    assert "A. Good\nB. Poor\nC. Bad\nFirst think in <think>" in item.prompt
    opened = read_one("q-bench-video", root, qbench(question_type="open_ended", answers="It is blurred."))
    assert (opened.rule, opened.reference, opened.options) == ("judged", "It is blurred.", ())
    assert opened.chance is None


@pytest.mark.parametrize("name", ["a.mp4_cat_b.mp4.mp4", "a_cat_b.mp4", "a.mp4_cat_b.mp4"])
def test_q_bench_pairs(root: Path, name: str) -> None:
    item = read_one("q-bench-video", root, qbench(video_name=name))
    assert item.videos == (str(root / "a.mp4"), str(root / "b.mp4"))


def test_finevq(root: Path) -> None:
    lines = [
        finevq(CHOICE, "B", "\ufeffa.mp4"),
        finevq(YES_NO, "Yes", role="gpt"),
        finevq("What blurs it?", "fog"),
    ]
    file = write(root.parent / "f.jsonl", "\n".join(map(json.dumps, lines)) + "\n")
    choice, yes_no, text = read_quiz("finevq", [file], root)
    assert choice.videos == (str(root / "a.mp4"),)
    assert (choice.options, choice.correct) == (("None", "lagging"), "B")
    assert choice.question_type == "distortion type"
    assert "Just answer" not in choice.prompt
    assert (yes_no.options, yes_no.correct) == (("Yes", "No"), "Yes")
    assert yes_no.concerns == ("color distortion",)
    assert "give only Yes or No in <answer>" in yes_no.prompt
    assert (text.rule, text.correct, text.chance) == ("text", "fog", None)


def test_finevq_that_rates(root: Path) -> None:
    entry = finevq("<|video|> How would you rate it?", "The quality of the video is fair.") | {"mos": 50.9}
    item = read_one("finevq", root, entry)
    assert item.question == "How would you rate it?"
    assert item.options[item.letters.index(item.correct)] == "fair"


@pytest.mark.parametrize(
    ("answer", "correct", "letter"),
    [(["Sharp", "Soft"], "B", "B"), ("A. Sharp\nB. Soft", "Soft", "B"), ("A. Sharp, B. Soft", "A.", "A"),
     ('["A. Sharp", "B. Soft"]', "(A)", "A")],
)  # fmt: skip
def test_omnivqa_options_and_choices(root: Path, answer: Any, correct: str, letter: str) -> None:
    entry = {"Video_name": "a.mp4", "Question": "How is it?", "Answer": answer, "Correct_choice": correct}
    item = read_one("omnivqa-fg", root, entry)
    assert (item.options, item.correct) == (("Sharp", "Soft"), letter)


def test_omnivqa_as_a_table(root: Path) -> None:
    table = 'Video_name,Question,Answer,Correct_choice\na.mp4,"Which, then?","A. Sharp\nB. Soft",B\n'
    (item,) = read_quiz("omnivqa-fg", [write(root.parent / "set.csv", table)], root)
    assert (item.question, item.options, item.correct) == ("Which, then?", ("Sharp", "Soft"), "B")


def test_a_cell_of_a_table_may_be_long(root: Path) -> None:
    table = 'Video_name,Question,Answer,Correct_choice,notes\na.mp4,Which?,"A. Sharp\nB. Soft",B,'
    table += "x" * 140_000 + "\n"
    (item,) = read_quiz("omnivqa-fg", [write(root.parent / "set.csv", table)], root)
    assert item.question == "Which?"


def test_a_broken_table_is_named(root: Path) -> None:
    file = write(root.parent / "set.csv", 'Video_name,Question\na.mp4,"Which, the')
    with pytest.raises(QuizError, match="set.csv: is not a valid table: unexpected end"):
        read_quiz("omnivqa-fg", [file], root)


def test_levels_are_named_or_cut_out_of_the_range(root: Path) -> None:
    named = read_one("vqa2-levels", root, {"video_path": "a.mp4", "mos": 0.7, "level": 4})
    assert named.options[named.letters.index(named.correct)] == "good"
    scores = [{"img_path": "a", "mos": score} for score in (10, 29, 31, 50, 69, 90, 110)]
    items = read_quiz("vqa2-levels", [write(root.parent / "s.json", scores)], root)
    assert items[0].videos == (str(root / "a.mp4"),)
    levels = [item.options[item.letters.index(item.correct)] for item in items]
    assert levels == ["bad", "bad", "poor", "fair", "fair", "excellent", "excellent"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q-bench-video", "{", "set.json: is not JSON"),
        ("q-bench-video", "{}", "not a list of entries"),
        ("q-bench-video", "[]", "has no entries"),
        ("q-bench-video", [3], "entry 1: is 3, not an object"),
        ("q-bench-video", [qbench(), qbench(question="")], "set.json, entry 2, question: is missing"),
        ("q-bench-video", [qbench(question=7)], "entry 1, question: is 7, not a text"),
        ("q-bench-video", [qbench(correct_choice="D")], "correct_choice: is 'D', not a letter from A to C"),
        ("q-bench-video", [qbench(answers=["one"])], "answers: holds 1 option"),
        ("q-bench-video", [qbench(answers="A")], "answers: is 'A', not a list of texts"),
        ("q-bench-video", [qbench(question_type="essay")], "question_type: is 'essay': use one of what/how"),
        ("q-bench-video", [qbench(video_name="../a.mp4")], "video_name: '../a.mp4' leaves the folder"),
        ("q-bench-video", [qbench(video_name="/etc/a.mp4")], "'/etc/a.mp4' leaves the folder"),
        ("q-bench-video", [qbench(video_name="a\0.mp4")], "entry 1, video_name: 'a\\x00.mp4' is not a path"),
        ("q-bench-video", [qbench(video_name="a_cat_b_cat_c.mp4")], "joins 3 names"),
        ("q-bench-video", [qbench(question_type="open_ended", answers=[], correct_choice="")], "is missing"),
        ("q-bench-video", [qbench(video_name="gone.mp4")], "holds none of the videos"),
        ("finevq", [finevq(CHOICE, "C")], "the answer is 'C', not one of A, B"),
        ("finevq", [finevq(YES_NO, "maybe")], "the answer is 'maybe', not Yes or No"),
        ("finevq", [{"video": "a.mp4", "conversations": []}], "conversations: is missing"),
        ("finevq", [{"video": "a.mp4", "conversations": [{"from": "human"}]}], "has no question"),
        ("omnivqa-fg", [{"Video_name": "a.mp4", "Answer": "Sharp", "Correct_choice": "A"}], "holds 0 option"),
        ("vqa2-levels", [{"img_path": "a.mp4", "mos": "high"}], "mos: is 'high', not a number"),
        ("vqa2-levels", [{"img_path": "a.mp4", "level": 0}], "level: is 0: levels range from 1"),
        ("vqa2-levels", [{"img_path": "a.mp4", "level": 7}], "level: is 7: levels range from 1"),
        ("finevq", [finevq("How good?", "good or fair") | {"mos": 3}], "names 2 levels, not one"),
        ("q-bench", [qbench()], "'q-bench' is not a known set: give one of q-bench-video"),
    ],
)
def test_what_is_wrong_is_named(root: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises(QuizError) as error:
        read_quiz(name, [write(root.parent / "set.json", content)], root)
    assert message in str(error.value)


def test_all_problems_are_named_at_once(root: Path) -> None:
    file = write(root.parent / "set.json", [qbench(question=""), qbench(), qbench(correct_choice="Z")])
    with pytest.raises(QuizError, match=r"(?s)entry 1, question.*entry 3, correct_choice"):
        read_quiz("q-bench-video", [file], root)
