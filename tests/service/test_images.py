"""Base64 of images, by the rules of Go's ``encoding/base64``."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.runner.messages import MAX_FRAME
from ollama_nb.service import images
from ollama_nb.service.images import MAX_TOTAL, check_images, decode_images
from ollama_nb.wire.errors import BadRequestError


@given(files=st.lists(st.binary(min_size=1), max_size=3), data=st.data())
def test_what_was_encoded_comes_back_with_line_ends_anywhere(files, data):
    texts = []
    for file in files:
        text = base64.b64encode(file).decode()
        for end in data.draw(st.lists(st.sampled_from(["\n", "\r\n", "\r"]), max_size=4)):
            at = data.draw(st.integers(0, len(text)))
            text = text[:at] + end + text[at:]
        texts.append(text)
    check_images(texts)
    assert decode_images(texts) == tuple(files)


@pytest.mark.parametrize("size", [5, 6, 7, 8, 9, 12])
def test_what_is_decoded_in_parts_is_the_same_whole(monkeypatch, size):
    monkeypatch.setattr(images, "_PART", 4)
    file = bytes(range(size))
    text = base64.encodebytes(file).decode()
    check_images([text])
    assert decode_images([text]) == (file,)
    with pytest.raises(BadRequestError, match="illegal base64 data at input byte 4"):
        check_images(["QQ==QUJD"])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("data:image/png;base64,QUJD", 4),
        ("QUJD-_", 4),
        ("QUJD QUJD", 4),
        ("Q", 0),
        ("QUJDQ", 4),
        ("QU", 0),
        ("QUJDQUI", 4),
        ("QUJD\nQUI", 5),
        ("=", 0),
        ("Q===", 1),
        ("QU=", 3),
        ("QU=\n", 4),
        ("QU=x", 2),
        ("QU==x", 4),
        ("QUI=QUJD", 4),
        ("QUI==", 4),
        ("é", 0),
    ],
)
def test_a_fault_is_named_where_go_finds_it(text, fault):
    with pytest.raises(BadRequestError, match=f"^illegal base64 data at input byte {fault}$"):
        check_images([text])


def test_bits_that_padding_leaves_over_are_of_no_interest():
    assert decode_images(["QUF="]) == decode_images(["QUE="])


@given(text=st.text(st.sampled_from("QUJD=\n- é"), max_size=12))
def test_any_text_is_decoded_or_refused(text):
    try:
        check_images([text])
    except BadRequestError:
        return
    (data,) = decode_images([text])
    assert base64.b64decode(text) == data


@pytest.mark.parametrize("text", ["", "\n"])
def test_an_image_of_no_bytes_is_refused(text):
    with pytest.raises(BadRequestError, match="received zero length image"):
        check_images(["QUJD", text])


def test_all_images_together_fit_into_a_frame(monkeypatch):
    assert MAX_TOTAL < MAX_FRAME
    monkeypatch.setattr(images, "MAX_TOTAL", 5)
    check_images(["QUJD"])
    with pytest.raises(BadRequestError, match="the images have 6 bytes together"):
        check_images(["QUJD", "QUJD"])
