"""Placeholders among tokens: what stands for an image, and where a list of tokens may be cut."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.engine.images import NO_IMAGES, Images
from ollama_nb.engine.sequences import common_prefix, truncate_prompt


@dataclass(frozen=True)
class Sized:
    """An image of which only the size matters; the real ones come from a projector."""

    digest: bytes
    cells: int
    positions: int


CAT, DOG = Sized(b"\xff" * 32, 4, 4), Sized(b"dog" * 10, 3, 3)
WIDE = Sized(b"wide" * 8, 9, 3)


def laid_out(*parts):
    """Tokens of text as they are, placeholders for images."""
    return [token for part in parts for token in ([part] if isinstance(part, int) else Images.placeholders(part))]


def test_an_image_takes_a_place_for_each_of_its_cells():
    tokens = laid_out(1, CAT, 2)
    assert len(tokens) == 6
    assert len(set(tokens)) == 6
    assert [token for token in tokens if token >= 0] == [1, 2]
    assert all(Images([CAT, DOG]).at(token) is CAT for token in tokens[1:5])


def test_prompts_begin_alike_as_far_as_their_images_are_the_same():
    assert common_prefix(laid_out(1, CAT, 2, DOG), laid_out(1, CAT, 2, CAT)) == 6
    assert common_prefix(laid_out(1, CAT), laid_out(1, DOG)) == 1


def test_text_leads_up_to_the_next_image():
    images = Images([CAT])
    assert [images.until_next(tokens) for tokens in ([], [1, 2], laid_out(1, CAT, 2), laid_out(CAT))] == [0, 2, 1, 0]
    assert NO_IMAGES.until_next([1, 2, 3]) == 3


def test_a_place_behind_images_of_two_dimensions_is_a_position_before_it():
    images = Images([CAT, WIDE])
    assert images.position(laid_out(1, CAT, 2)) == 6
    assert images.position(laid_out(1, WIDE, 2, WIDE, CAT)) == 1 + 3 + 1 + 3 + 4


def test_an_image_is_all_before_a_cut_or_all_behind_it():
    images, tokens = Images([CAT]), laid_out(7, CAT, 8)
    assert [images.floor(tokens, index) for index in range(8)] == [0, 1, 1, 1, 1, 5, 6, 7]
    assert [images.ceiling(tokens, index) for index in range(8)] == [0, 1, 5, 5, 5, 5, 6, 7]


def test_penalties_see_no_placeholders():
    assert Images([CAT]).text(laid_out(7, CAT, 8)) == [7, 8]


def test_the_largest_image_is_known():
    assert Images([CAT, WIDE, DOG]).largest == 9
    assert NO_IMAGES.largest == 0
    assert Images([CAT])
    assert not NO_IMAGES


parts = st.lists(st.one_of(st.integers(0, 99), st.sampled_from([CAT, DOG, WIDE])), max_size=20)


@given(parts=parts, keep=st.integers(0, 20), num_ctx=st.integers(12, 40))
def test_a_prompt_that_is_cut_has_whole_images_only(parts, keep, num_ctx):
    images = Images([CAT, DOG, WIDE])
    tokens = laid_out(*parts, 5)
    keep = images.floor(tokens, min(keep, num_ctx - 1, len(tokens)))
    cut = images.mended(truncate_prompt(tokens, keep, num_ctx), keep)
    assert len(cut) <= num_ctx
    assert cut[-1] == 5
    rest = list(cut)
    while rest:
        image = images.at(rest[0])
        count = image.cells if image else 1
        assert rest[:count] == (Images.placeholders(image) if image else rest[:1])
        del rest[:count]


@pytest.mark.parametrize("tokens", [[1, 2, 3], []])
def test_text_alone_is_left_as_it_is(tokens):
    assert NO_IMAGES.mended(tokens, 1) == tokens
    assert NO_IMAGES.text(tokens) == tokens
    assert NO_IMAGES.position(tokens) == len(tokens)
