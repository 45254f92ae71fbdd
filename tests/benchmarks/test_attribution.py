"""Does a trace name what was done to the clip: by hand, and at the limits."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.trace_attribution import FEWEST_CLIPS, NOTHING, SEVERAL, VOCABULARY, Vocabulary, attribute
from data.distortions import OOD_KINDS, TRAIN_KINDS
from demo.base_model.traces import TEMPLATES, completion, strength_index


def prediction(kind: str, text: str, mos: float = 3.0, **more: Any) -> dict[str, Any]:
    known = {"video_id": text, "source": "", "headline": True, "failure": ""}
    return known | {"distortion": kind, "text": text, "mos": mos} | more


def says(kind: str, mos: float = 3.0) -> str:
    return completion(kind, mos, mos, template=0)


@given(st.sampled_from(TRAIN_KINDS), st.floats(1, 5), st.integers(0, len(TEMPLATES) - 1))
def test_every_trace_that_the_base_was_taught_is_read_as_it_was_meant(
    kind: str, mos: float, template: int
) -> None:
    text = completion(kind, mos, mos, template)
    assert VOCABULARY.named(text) == kind
    assert VOCABULARY.strength(text) == strength_index(mos)


@pytest.mark.parametrize(
    ("text", "named", "strength"),
    [
        ("<think>Blur.</think><answer>3.00</answer>", "blur", None),
        ("Strong blur and faint noise", SEVERAL, None),
        ("Severe, SEVERE blur; blur everywhere", "blur", 4),
        ("The picture is blurry, noiseless and stronger", NOTHING, None),
        ("", NOTHING, None),
    ],
)
def test_a_word_counts_whole_and_alone(text: str, named: str, strength: int | None) -> None:
    assert VOCABULARY.named(text) == named
    found = VOCABULARY.strength(text)
    assert math.isnan(found) if strength is None else found == strength


def test_of_two_nouns_that_begin_alike_the_longer_is_meant() -> None:
    words = Vocabulary({"blur": "blur", "motion_blur": "blur of motion"}, ["weak"], {})
    assert words.named("a blur of motion") == "motion_blur"


def test_every_kind_of_the_demo_set_can_be_named() -> None:
    for kind in (*TRAIN_KINDS, *OOD_KINDS):
        assert VOCABULARY.right_answers(kind) <= set(TRAIN_KINDS)
    with pytest.raises(ValueError, match="'mosaic' has no word and counts as none; known are h264"):
        VOCABULARY.right_answers("mosaic")


def test_figures_by_hand() -> None:
    clips = [
        *(prediction("blur", says("blur", mos), mos) for mos in (4.5, 3.5, 3.0, 2.0, 1.5, 1.0)),
        *(prediction("noise", says("noise", mos), mos) for mos in (4.5, 3.5, 2.5, 1.5)),
        prediction("noise", says("blur", 3.0), 3.0),
        prediction("noise", "no words at all", 3.0),
    ]
    found = attribute(clips, VOCABULARY, samples=200)
    assert found.accuracy == pytest.approx(10 / 12)
    # Blur: 6 right, 1 named wrongly, none missed. Noise: 4 right, 2 missed.
    assert found.f1 == pytest.approx({"blur": 12 / 13, "noise": 8 / 10})
    assert found.macro_f1 == pytest.approx((12 / 13 + 8 / 10) / 2)
    assert found.strength_srcc > 0.95
    assert found.constant_accuracy == 0.5
    assert (found.clips, found.unnamed, found.without_strength) == (12, 1, 1)
    matrix = {
        r: dict(zip(found.columns, row, strict=True))
        for r, row in zip(found.rows, found.confusion, strict=True)
    }
    assert matrix["noise"] == dict.fromkeys(found.columns, 0) | {"noise": 4, "blur": 1, NOTHING: 1}
    assert sum(map(sum, found.confusion)) == found.clips
    assert found.accuracy_low < found.accuracy < found.accuracy_high


def test_strong_words_for_good_clips_correlate_negatively() -> None:
    clips = [prediction("blur", says("blur", 6 - mos), mos) for mos in (1.2, 2.2, 3.0, 3.8, 4.8)]
    assert attribute(clips, VOCABULARY, samples=50).strength_srcc == pytest.approx(-1)


def test_a_kind_without_a_word_is_named_by_its_kin() -> None:
    clips = [prediction("av1", says(kind)) for kind in ("h264", "hevc", "rescale")]
    clips += [prediction("impulse", says("noise"))]
    found = attribute(clips, VOCABULARY, samples=50)
    assert found.accuracy == pytest.approx(3 / 4)
    assert found.f1 == pytest.approx({"av1": 2 * 2 / (3 + 2), "impulse": 1})
    assert found.rows == ["av1", "impulse"]


def test_a_kind_with_few_clips_does_not_weigh_in_the_mean_over_kinds() -> None:
    clips = [prediction("blur", says("blur"))] * FEWEST_CLIPS + [prediction("freeze", says("h264"))]
    found = attribute(clips, VOCABULARY, samples=50)
    assert found.f1 == {"blur": 1.0, "freeze": 0.0}
    assert found.macro_f1 == 1


def test_clips_that_failed_or_do_not_show_their_distortion_are_left_out() -> None:
    good = prediction("blur", says("blur"))
    hidden = prediction("freeze", says("blur"), headline=False)
    failed = prediction("blur", "", failure="cannot be decoded")
    unlabelled = prediction("", says("blur"))
    assert attribute([good, hidden, failed, unlabelled], VOCABULARY, samples=50).clips == 1
    with pytest.raises(ValueError, match="nothing to attribute"):
        attribute([hidden, failed, unlabelled], VOCABULARY)


def test_one_source_has_figures_and_no_interval() -> None:
    clips = [prediction("blur", says("blur", mos), mos, source="one") for mos in (2.0, 3.0, 4.0)]
    found = attribute(clips, VOCABULARY)
    assert found.accuracy == 1
    assert math.isnan(found.accuracy_low)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(TRAIN_KINDS), st.sampled_from(TRAIN_KINDS)), min_size=1))
def test_accuracy_is_the_diagonal_of_the_matrix(pairs: list[tuple[str, str]]) -> None:
    found = attribute([prediction(true, says(said)) for true, said in pairs], VOCABULARY, samples=1)
    diagonal = sum(
        row[found.columns.index(kind)] for kind, row in zip(found.rows, found.confusion, strict=True)
    )
    assert found.accuracy == pytest.approx(diagonal / len(pairs))
    assert 0 <= found.constant_accuracy <= 1
