"""Forward passes laid out ahead of the model."""

import threading
import time
from typing import Any, cast

import pytest

from learner.batches import Batches, LayOut
from learner.inputs import MicroBatch


def named(name: str) -> LayOut:
    return lambda: cast(MicroBatch, name)


def test_gone_through_in_order_and_filled_up_with_passes_that_do_not_count() -> None:
    with Batches([named("a"), named("b")], named("c"), fillers=2, timeout_s=5) as batches:
        expected: list[Any] = [("a", True), ("b", True), ("c", False), ("c", False)]
        assert list(batches) == list(batches) == expected
        assert len(batches) == 4
    with Batches([], named("c"), fillers=1, timeout_s=5) as batches:
        assert [real for _, real in batches] == [False]


def test_the_next_is_laid_out_while_the_first_is_computed() -> None:
    second = threading.Event()

    def announce() -> MicroBatch:
        second.set()
        return cast(MicroBatch, "b")

    with Batches([named("a"), announce], named("c"), fillers=0, timeout_s=5) as batches:
        passes = iter(batches)
        next(passes)
        assert second.wait(5), "without being asked for"


def test_waiting_is_counted_and_has_an_end() -> None:
    def slow() -> MicroBatch:
        time.sleep(0.3)
        return cast(MicroBatch, "late")

    with Batches([slow], named("c"), fillers=0, timeout_s=5) as batches:
        list(batches)
        assert 0.2 < batches.waited_s < 5
    with Batches([slow], named("c"), fillers=0, timeout_s=0.05) as batches, pytest.raises(TimeoutError):
        list(batches)


def test_an_error_comes_where_the_batch_is_needed() -> None:
    def broken() -> MicroBatch:
        raise ValueError("the engine's prompt has 7 tokens")

    with Batches([named("a"), broken], named("c"), fillers=0, timeout_s=5) as batches:
        passes = iter(batches)
        assert next(passes)[0] == cast(Any, "a")
        with pytest.raises(ValueError, match="7 tokens"):
            next(passes)
