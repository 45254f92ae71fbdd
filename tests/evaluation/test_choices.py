"""Whether answers to quiz questions are right, and how often."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.quiz.grading import Verdict, final_answer, grade_choice
from evaluation.quiz.item import QuizItem, Rule
from evaluation.quiz.results import ALL, Mark, accuracies


def item(
    rule: Rule = "first_letter", correct: str = "B", options: tuple[str, ...] = ("Good", "Bad")
) -> QuizItem:
    return QuizItem("i", ("/a.mp4",), "How?", options, correct, rule, "what/how")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>so A</think><answer> B. </answer>", "B."),
        ("<think>A</think>\nB", "B"),
        ("B", "B"),
        ("<answer>A</answer><answer>B</answer>", None),
        ("<think>A, or <answer>A</answer>?</think><answer>B</answer>", None),
        ("<think>B, and then it was cut", None),
        ("<think>A</think><answer>B", None),
        ("<answer> </answer>", None),
        ("", None),
    ],
)
def test_the_answer_is_told_from_the_thinking(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("rule", "text", "said"),
    [
        ("first_letter", "B", "B"), ("first_letter", "B. Bad", "B"), ("first_letter", "Bad", "B"),
        ("first_letter", "(B)", None), ("first_letter", "b", None), ("first_letter", "C", None),
        ("choice", "b.", "B"), ("choice", "(B)", "B"), ("choice", "bad", "B"), ("choice", "B: Bad.", "B"),
        ("choice", "B. Good", None), ("choice", "It is B", None), ("choice", "C", None),
        ("choice", "A, B", None),
    ],
)  # fmt: skip
def test_rules_of_choices(rule: Rule, text: str, said: str | None) -> None:
    assert grade_choice(item(rule), f"<think>A</think><answer>{text}</answer>") == Verdict(said, said == "B")


def test_rule_of_words() -> None:
    yes_no = item("text", "Yes", ("Yes", "No"))
    said = [grade_choice(yes_no, text) for text in ("[YES].", "no", "Yes, it is", "")]
    assert said == [Verdict("yes", True), Verdict("no", False), Verdict(None, False), Verdict(None, False)]
    assert grade_choice(item("text", "motion blur", ()), "Motion  blur!").right


answers = st.text(st.sampled_from("ABCDabGod .:()<>/\n"), max_size=12) | st.text(max_size=12)
lettered: st.SearchStrategy[Rule] = st.sampled_from(["first_letter", "choice"])


@given(lettered, answers, st.sampled_from("AB"))
def test_right_is_what_was_said_and_nothing_else(rule: Rule, text: str, correct: str) -> None:
    verdict = grade_choice(item(rule, correct), text)
    assert verdict.said in (None, "A", "B")
    assert verdict.right == (verdict.said == correct)
    other = grade_choice(item(rule, "B" if correct == "A" else "A"), text)
    assert other.said == verdict.said, "which option is right has no influence on what is read"


@given(lettered, st.sampled_from("AB"), st.text(max_size=20))
def test_a_wrapped_letter_is_read_whatever_was_thought(rule: Rule, letter: str, thought: str) -> None:
    thought = thought.replace("<", "")
    assert grade_choice(item(rule), f"<think>{thought}</think><answer>{letter}</answer>").said == letter


def test_accuracy_counts_what_was_not_read_as_wrong() -> None:
    right, wrong, unread = Verdict("B", True), Verdict("A", False), Verdict(None, False)
    four = item(options=("a", "b", "c", "d"))
    marks = [Mark(item(), right), Mark(item(), wrong), Mark(four, unread), Mark(four, None)]
    figures = accuracies(marks)[ALL]
    assert (figures.n, figures.right, figures.unparsed, figures.unanswered) == (4, 1, 1, 1)
    assert figures.value == 0.25
    assert figures.chance == (0.5 + 0.5 + 0.25 + 0.25) / 4
    z, n, p = 1.959964, 4, 0.25  # Wilson's interval by hand
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    expected = ((centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n))
    assert (figures.low, figures.high) == pytest.approx(expected, abs=1e-6)


def test_accuracy_by_kind_counts_a_question_under_each_of_its_concerns() -> None:
    both = QuizItem("i", ("/a",), "?", ("a", "b"), "A", "choice", "yes-or-no", ("Technical", "AIGC"))
    figures = accuracies([Mark(both, Verdict("A", True)), Mark(item(), Verdict("A", False))])
    assert figures[ALL].n == 2
    assert figures["concern", "Technical"].right == figures["concern", "AIGC"].right == 1
    assert figures["question type", "what/how"].right == 0
