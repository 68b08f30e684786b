"""Grammars of llama.cpp: the same texts are let through, and a mistake is shown in its line."""

from __future__ import annotations

import pytest
from byte_grammars import takes

from ollama_nb.prompt.formats.gbnf import GbnfError
from ollama_nb.prompt.formats.gbnf_lark import lark_of_gbnf

JSON = r"""
# JSON as llama.cpp's own grammars have it, in other words
root   ::= object ws
value  ::= object | list | text | number | ("true" | "false" | "null")
object ::= "{" ws ( pair ( "," ws pair )* )? "}"
pair   ::= text ":" ws value ws
list   ::=
  "[" ws (
    value ws ( "," ws value ws )*   # blanks are everywhere
  )? "]"
text   ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}) )* "\""
number ::= "-"? ("0" | [1-9] [0-9]{0,14}) ("." [0-9]+)? ([eE] [-+]? [0-9]{1,3})?
ws     ::= [ \t\n]*
"""


@pytest.mark.parametrize(
    "text", ["{}", '{ "a": [1, -2.5e3,{"b":"\\u00e9\\n"} ] , "c":null }\n', '{"a":[[[]]]}', '{"é": ""}']
)
def test_a_grammar_of_json_takes_json(text):
    assert takes(lark_of_gbnf(JSON), text)


@pytest.mark.parametrize("text", ["[]", "{", '{"a" 1}', '{"a": 01}', "{'a': 1}", '{"a": "\n"}'])
def test_a_grammar_of_json_takes_nothing_else(text):
    assert not takes(lark_of_gbnf(JSON), text)


@pytest.mark.parametrize(
    ("grammar", "fits", "fits_not"),
    [
        ('root ::= "a" [a-z]+ "x"', ["abx", "aax", "axxx"], ["ax", "abc"]),
        ("root ::= [^\\n]+ [\\n]", ["/]-^\n"], ["\n"]),
        ('root ::= "1" x{2,3}\nx ::= [0-9] | "-" | [\\]\\-^/]', ["1--", "1]-", "1^/0"], ["1-", "12345"]),
        ("root ::= x{2} y{1,} z{,2}\nx ::= [x]\ny ::= [y]\nz ::= [z]", ["xxy", "xxyyyzz"], ["xy", "xxzz", "xxyzzz"]),
        ('root ::= e\ne ::= e "+" e | [0-9]+ | "(" e ")"', ["1+(2+33)", "7"], ["1+", "()"]),
        ('root ::= a-b\na-b ::= "é" . [😀-😃] "\\u00e9" "\\U0001F600"', ["é\n😁é😀"], ["é😁é😀"]),
        ('root ::= ("a" | )', ["", "a"], ["b"]),
        ("root ::=", [""], ["a"]),
        ('root ::= "a" |\n  "b"\n\n# the end', ["a", "b"], ["ab"]),
        ('root ::= r*\nr ::= ("x" r "y")?', ["", "xxyy", "xyxy"], ["xxy"]),
        ("root ::= [^] [a-]", ["xa", "]-"], ["x"]),
        ('start ::= "b"\nroot ::= "a" start', ["ab"], ["b"]),
        ('root ::= "\\"\\\\\\t"', ['"\\\t'], []),
    ],
)
def test_a_grammar_takes_what_llama_cpp_takes(grammar, fits, fits_not):
    lark = lark_of_gbnf(grammar)
    assert [text for text in fits if not takes(lark, text)] == []
    assert [text for text in fits_not if takes(lark, text)] == []


def test_a_thousand_rules_are_read_in_no_time():
    rules = "\n".join(f"r{number} ::= r{number + 1} | [0-9]" for number in range(1000))
    assert takes(lark_of_gbnf(f'root ::= r0\n{rules}\nr1000 ::= "x"'), "x")


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ('root = "a"', 'line 1: "::=" has to follow "root"'),
        ('root ::= "a"\n\n  ::= "b"', "line 3: the name of a rule is missing"),
        ("root ::= (\n b )\n", 'line 2: there is no rule "b"'),
        ('foo ::= "a"', 'there is no rule "root"'),
        ('root ::= "a', 'line 1: " is missing'),
        ("root ::= [a", "line 1: ] is missing"),
        ('root ::= ("a"', 'line 1: ")" is missing'),
        ('root ::= "a" )', 'line 1: ")" cannot stand here'),
        ("root ::= <think>", "line 1: tokens cannot be named here"),
        ('root ::= "\\q"', "is no escape"),
        ('root ::= "\\UFFFFFFFF"', "line 1: \\UFFFFFFFF is no character"),
        ('root ::= "a"{3,2}', "line 1: {3,2} is no number of times"),
        ('root ::= "a"{}', "line 1: a number is missing"),
        ('root ::= "a"{20000}', "up to 10000 can be counted"),
        ("root ::= []", "line 1: a class without characters"),
        ("root ::= [z-a]", "a range cannot go from 'z' to 'a'"),
        ("root ::= " + "(" * 70, "nested more than 64 levels deep"),
        ("#" * 200_000, "characters, more than"),
    ],
)
def test_a_mistake_is_shown(grammar, message):
    with pytest.raises(GbnfError) as caught:
        lark_of_gbnf(grammar)
    assert message in str(caught.value)
