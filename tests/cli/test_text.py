from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ollama_nb.cli.text import Column, Table, card_text, human_size, processor, relative_time, until
from ollama_nb.client.models import NEVER, Details, ModelCard

NOW = datetime(2025, 7, 30, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 KB"),
        (1500, "1.5 KB"),
        (98_400_000, "98 MB"),
        (4_920_000_000, "4.9 GB"),
        (10_999_999_999, "10 GB"),
        (2 * 10**12, "2 TB"),
        (12_345 * 10**12, "12345 TB"),
    ],
)
def test_sizes_are_decimal_and_short(size, text):
    assert human_size(size) == text


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(milliseconds=300), "Less than a second"),
        (timedelta(seconds=1), "1 second"),
        (timedelta(seconds=59), "59 seconds"),
        (timedelta(seconds=90), "About a minute"),
        (timedelta(minutes=4, seconds=30), "4 minutes"),
        (timedelta(minutes=59), "59 minutes"),
        (timedelta(minutes=60), "About an hour"),
        (timedelta(minutes=89), "About an hour"),
        (timedelta(minutes=90), "2 hours"),
        (timedelta(hours=47), "47 hours"),
        (timedelta(hours=48), "2 days"),
        (timedelta(days=13), "13 days"),
        (timedelta(days=14), "2 weeks"),
        (timedelta(days=59), "8 weeks"),
        (timedelta(days=60), "2 months"),
        (timedelta(days=729), "24 months"),
        (timedelta(days=731), "2 years"),
    ],
)
def test_times_are_told_in_their_largest_unit(span, text):
    assert relative_time(NOW - span, NOW) == f"{text} ago"
    assert relative_time(NOW + span, NOW) == f"{text} from now"


def test_no_time_and_all_time_have_their_words():
    assert relative_time(NEVER, NOW) == "Never"
    assert relative_time(NOW + timedelta(days=300 * 365), NOW) == "Forever"
    assert until(NOW - timedelta(seconds=1), NOW) == "Stopping..."
    assert until(NOW + timedelta(minutes=4), NOW) == "4 minutes from now"
    assert until(NEVER, NOW) == "Never"


def test_a_time_zone_does_not_change_the_distance():
    there = datetime.fromisoformat("2025-07-30T10:00:00+02:00")
    assert relative_time(there, NOW) == "4 hours ago"


@pytest.mark.parametrize(
    ("size", "vram", "text"),
    [
        (100, 100, "100% GPU"),
        (100, 0, "100% CPU"),
        (0, 0, "100% CPU"),
        (100, 52, "48%/52% CPU/GPU"),
        (200, 1, "100%/0% CPU/GPU"),
        (100, 101, "Unknown"),
        (0, 5, "Unknown"),
    ],
)
def test_the_processor_says_where_the_bytes_are(size, vram, text):
    assert processor(size, vram) == text


def test_a_table_is_aligned_with_four_spaces_and_no_borders():
    table = Table((Column("NAME", "name"), Column("SIZE", "size", human_size)), (("a", 10), ("longer", 2000)))
    assert table.text() == "NAME      SIZE\na         10 B\nlonger    2 KB"
    assert Table(table.columns, ()).text() == "NAME    SIZE"


CARD = ModelCard(
    details=Details(parameter_size="8.0B", quantization_level="Q4_K_M", family="llama"),
    capabilities=("completion", "tools"),
    parameters='stop                           "<|eot_id|>"\ntemperature                    0.7',
    system="Be kind.\n\nBe brief.\nBe true.",
    license="Apache",
    projector_info={"general.architecture": "clip", "clip.vision.embedding_length": 1024},
    model_info={
        "general.architecture": "llama",
        "llama.context_length": 8192,
        "llama.rope.freq_base": 10000.0,
        "tokenizer.add_bos": True,
        "tokenizer.tokens": ["a", "b", "c", "d", "e"],
        "tokenizer.none": None,
    },
    tensors=({"name": "token_embd.weight", "type": "Q4_1", "shape": [576, 49152]},),
)


def test_a_card_has_ollamas_sections():
    assert (
        card_text(CARD)
        == """\
  Model
    architecture      llama
    parameters        8.0B
    context length    8192
    quantization      Q4_K_M

  Capabilities
    completion
    tools

  Projector
    architecture        clip
    embedding length    1024

  Parameters
    stop           "<|eot_id|>"
    temperature    0.7

  System
    Be kind.
    Be brief.
    ...

  License
    Apache
"""
    )


def test_a_verbose_card_has_metadata_and_tensors_too():
    text = card_text(CARD, verbose=True)
    assert "    tokenizer.tokens        [a b c ...+2 more]\n" in text
    assert "    llama.rope.freq_base    10000\n" in text
    assert "    tokenizer.add_bos       true\n" in text
    assert "  Tensors\n    token_embd.weight    Q4_1    [576 49152]\n" in text


def test_an_empty_card_has_no_sections():
    assert card_text(ModelCard()) == ""
