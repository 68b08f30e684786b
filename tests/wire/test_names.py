"""Names and digests: what is accepted, how it is completed, and what never becomes a path."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.wire.errors import BadRequestError
from ollama_nb.wire.names import InvalidNameError, Name, parse_digest, parse_name

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("x", ("registry.ollama.ai", "library", "x", "latest")),
        ("x:7b", ("registry.ollama.ai", "library", "x", "7b")),
        ("ns/x", ("registry.ollama.ai", "ns", "x", "latest")),
        ("example.com/ns/x:tag", ("example.com", "ns", "x", "tag")),
        ("hf.co/user/repo-GGUF:Q4_K_M", ("hf.co", "user", "repo-GGUF", "Q4_K_M")),
        ("localhost:5000/ns/x", ("localhost:5000", "ns", "x", "latest")),
        ("https://example.com:80/ns/x:tag", ("example.com:80", "ns", "x", "tag")),
        ("http://host/ns/x", ("host", "ns", "x", "latest")),
        ("_x", ("registry.ollama.ai", "library", "_x", "latest")),
        ("Llama3.2:1B-Q4", ("registry.ollama.ai", "library", "Llama3.2", "1B-Q4")),
        ("a" * 80 + ":" + "b" * 80, ("registry.ollama.ai", "library", "a" * 80, "b" * 80)),
        ("h" * 350 + "/n/m", ("h" * 350, "n", "m", "latest")),
    ],
)
def test_a_name_is_read_from_the_right_and_completed(text, parts):
    assert parse_name(text).path_parts == parts


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "/",
        "x:",
        ":x",
        "/x",
        "x/",
        "a//b",
        "//a/b",
        "/a/b",
        "http://a/b",
        "a/b/c/d",
        "x@sha256:" + HEX,
        "..",
        ".",
        "../x",
        "../../etc/passwd",
        "ns/../x",
        ".hidden",
        "x:.hidden",
        "x:..",
        "-x",
        "x:-y",
        "a.b/x",
        "a:b:c",
        "x y",
        "x\n",
        "x\0",
        "a\\b",
        "é",
        "\u212a",
        "x" * 81,
        "x:" + "y" * 81,
        "n" * 81 + "/x",
        "h" * 351 + "/n/x",
    ],
)
def test_what_is_no_name_is_refused(text):
    with pytest.raises(InvalidNameError, match=r"^invalid model name$") as caught:
        parse_name(text)
    assert caught.value.status == 400


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("part", ["", ".", "..", "a/b", "a\\b", "/", "a\0", "a\n", ".a"])
def test_not_even_the_constructor_makes_an_invalid_name(position, part):
    parts = ["host", "ns", "model", "tag"]
    parts[position] = part
    with pytest.raises(InvalidNameError):
        Name(*parts)


@pytest.mark.parametrize(
    ("text", "short", "full"),
    [
        ("x", "x:latest", "registry.ollama.ai/library/x:latest"),
        ("library/x:a", "x:a", "registry.ollama.ai/library/x:a"),
        ("LIBRARY/x", "x:latest", "registry.ollama.ai/LIBRARY/x:latest"),
        ("Registry.Ollama.AI/library/x", "x:latest", "Registry.Ollama.AI/library/x:latest"),
        ("ns/x", "ns/x:latest", "registry.ollama.ai/ns/x:latest"),
        ("hf.co/library/x", "hf.co/library/x:latest", "hf.co/library/x:latest"),
    ],
)
def test_the_short_form_hides_defaults_but_never_the_tag(text, short, full):
    name = parse_name(text)
    assert (name.short, name.full, str(name)) == (short, full, short)


def test_names_that_differ_by_case_are_the_same_model():
    assert parse_name("NS/Model:Q4").is_same(parse_name("ns/mODEL:q4"))
    assert not parse_name("ns/model:q4").is_same(parse_name("ns/model:q5"))


def parts(extra: str, limit: int) -> st.SearchStrategy[str]:
    first = string.ascii_letters + string.digits + "_"
    return st.builds(
        lambda head, tail: head + tail, st.sampled_from(first), st.text(first + "-" + extra, max_size=limit - 1)
    )


names = st.builds(Name, parts(".:", 350), parts("", 80), parts(".", 80), parts(".", 80))


@given(names)
def test_a_printed_name_reads_as_the_same_name(name):
    assert parse_name(name.full) == name
    assert parse_name(name.short).is_same(name)


@given(st.text())
def test_any_text_is_a_name_of_safe_parts_or_is_refused(text):
    try:
        name = parse_name(text)
    except InvalidNameError:
        return
    for part in name.path_parts:
        assert part.isascii()
        assert not part.startswith((".", "-", ":"))
        assert not set(part) & set("/\\\0\n ")


@pytest.mark.parametrize("text", [f"sha256:{HEX}", f"sha256-{HEX}", f"sha256:{HEX.upper()}", f"sha256-{HEX.upper()}"])
def test_a_digest_in_any_accepted_form_becomes_canonical(text):
    assert parse_digest(text) == f"sha256:{HEX}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        HEX,
        f"sha256:{HEX[:-1]}",
        f"sha256:{HEX}0",
        f"sha256:{HEX[:-1]}g",
        f"sha256:{HEX}\n",
        f"sha256:{HEX[:-1]}\0",
        f"SHA256:{HEX}",
        f"sha512:{HEX}",
        f"sha256_{HEX}",
        "sha256:../../../../etc/passwd",
        "sha256-" + "../" * 21 + "x",
        f"../sha256-{HEX}",
        "sha256:" + "٣" * 64,
    ],
)
def test_what_is_no_digest_is_refused_with_ollamas_text(text):
    with pytest.raises(BadRequestError, match=r"^invalid digest format$"):
        parse_digest(text)
