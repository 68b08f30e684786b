"""Whatever a schema asks for: what its grammar leads to is JSON that fits the schema, by an independent judge."""

from __future__ import annotations

import json
import random

import pytest
from byte_grammars import written_by_chance
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from random_schemas import random_schema

from ollama_nb.prompt.formats import parse_format


def assert_fits(schema, text):
    value = json.loads(text)
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(value)


@settings(deadline=None, max_examples=150)
@given(seed=st.integers(0, 1 << 32))
def test_what_anybody_writes_within_a_grammar_fits_the_schema(seed):
    chance = random.Random(seed)
    schema = random_schema(chance)
    assert_fits(schema, written_by_chance(parse_format(schema).grammar, chance))


@pytest.mark.parametrize("seed", range(3))
def test_a_random_schema_is_a_schema_and_the_same_again(seed):
    schema = random_schema(random.Random(seed))
    Draft202012Validator.check_schema(schema)
    assert random_schema(random.Random(seed)) == schema
