"""Blobs that models in the making need stay until the last of them is done."""

from __future__ import annotations

import pytest

from ollama_nb.store.holds import Holds
from ollama_nb.wire.errors import BadRequestError

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def test_what_nobody_holds_is_not_put_off() -> None:
    holds = Holds()
    assert not holds.put_off(A)
    assert holds.give_back([]) == frozenset()


def test_what_was_put_off_comes_back_with_the_last_who_held_it() -> None:
    holds = Holds()
    holds.take([A, B])
    holds.take([A.replace(":", "-"), A])
    assert holds.put_off(A)
    assert holds.give_back([A, B]) == frozenset()
    assert holds.give_back([A]) == frozenset()
    assert holds.give_back([A]) == {A}
    assert not holds.put_off(A)


def test_what_nobody_wanted_to_remove_does_not_come_back() -> None:
    holds = Holds()
    holds.take([A, B])
    assert holds.put_off(B)
    assert holds.give_back([A, B]) == {B}
    holds.take([B])
    assert holds.give_back([B]) == frozenset()


def test_a_digest_that_is_none_holds_nothing() -> None:
    holds = Holds()
    with pytest.raises(BadRequestError, match="invalid digest format"):
        holds.take([A, "sha256:../../x"])
    assert not holds.put_off(A)
