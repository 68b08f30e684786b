"""Which cancels stop a decode."""

from __future__ import annotations

import pytest

from ollama_nb.engine.interrupt import AbortWindow


@pytest.fixture
def aborts() -> list[str]:
    return []


@pytest.fixture
def window(aborts) -> AbortWindow:
    return AbortWindow(lambda: aborts.append("abort"))


def test_one_of_those_whose_prompt_is_read_is_enough(window, aborts):
    with window.open(any_of=[1, 2]):
        window.cancelled(3)
        assert not aborts
        window.cancelled(2)
        assert aborts == ["abort"]


def test_of_texts_all_have_to_be_cancelled(window, aborts):
    with window.open(all_of=[1, 2]):
        window.cancelled(2)
        window.cancelled(2)
        window.cancelled(3)
        assert not aborts
        window.cancelled(1)
        assert aborts == ["abort"]


def test_nothing_is_stopped_while_nothing_is_computed(window, aborts):
    window.cancelled(1)
    with pytest.raises(RuntimeError, match="decode"), window.open(any_of=[1], all_of=[2]):
        raise RuntimeError("decode")
    window.cancelled(1)
    window.cancelled(2)
    assert not aborts


def test_a_decode_of_nobody_is_stopped_by_nobody(window, aborts):
    with window.open():
        window.cancelled(1)
    assert not aborts
