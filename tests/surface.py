"""The surface of the API, and the tests that hold it: ``python tests/surface.py`` prints every row and the counts.

A table is plain data: route, part (``request``, ``response`` or ``behaviour``), what of it, and the tests that assert
it. Names of fields share a line where one test asserts them all, and are rows of their own. Ollama's API stands in
``surface_native``, OpenAI's in ``surface_openai``; that no row is missing or empty is checked by ``test_surface``.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from rich.console import Console
from rich.table import Table
from surface_native import NATIVE
from surface_openai import OPENAI

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FILES", "Row", "rows"]

FILES: Final = {
    "blobs": "tests/server/test_blobs.py",
    "busy": "tests/server/test_concurrency.py",
    "called": "tests/server/test_tools.py",
    "capabilities": "tests/server/test_capabilities.py",
    "chat": "tests/server/test_openai_chat.py",
    "client": "tests/compat/test_openai_client.py",
    "completions": "tests/server/test_openai_completions.py",
    "converted": "tests/server/test_making_converted.py",
    "document": "tests/server/test_openapi.py",
    "embed": "tests/server/test_embed.py",
    "engine": "tests/engine/test_batcher.py",
    "extra": "tests/server/test_openai_fields.py",
    "fields": "tests/server/test_fields.py",
    "gojson": "tests/wire/test_gojson.py",
    "killed": "tests/server/test_making_killed.py",
    "made": "tests/server/test_openai_answers.py",
    "making": "tests/server/test_making.py",
    "models": "tests/server/test_models.py",
    "native": "tests/server/test_native.py",
    "openai": "tests/server/test_openai_models.py",
    "prompts": "tests/server/test_prompts.py",
    "read": "tests/server/test_openai_requests.py",
    "routes": "tests/server/test_routes.py",
    "sampling": "tests/engine/test_sampling.py",
    "show": "tests/server/test_show.py",
    "smaller": "tests/server/test_making_smaller.py",
    "structured": "tests/server/test_structured.py",
    "template": "tests/server/test_create_template.py",
    "texts": "tests/compat/test_openai_texts.py",
    "pulls": "tests/server/test_pulls.py",
    "transfers": "tests/server/test_transfers.py",
    "trip": "tests/server/test_round_trip.py",
    "truncation": "tests/server/test_truncation.py",
    "vectors": "tests/service/test_vectors.py",
    "vision": "tests/server/test_vision.py",
    "watched": "tests/server/test_openai_vision.py",
    "wire": "tests/wire/test_options.py",
}
"""What the files of the tests are called in the tables."""


class Row(NamedTuple):
    """One thing that the documents promise, and where it is asserted."""

    route: str
    part: str
    what: str
    tests: tuple[str, ...]
    """Pairs of file and function, as pytest names them."""


def rows() -> Iterator[Row]:
    """Every row of both APIs."""
    for route, parts in {**NATIVE, **OPENAI}.items():
        for part, lines in parts.items():
            for names, tests in lines.items():
                nodes = tuple(
                    f"{FILES[file]}::{test}" for file, _, test in (id_.partition("::") for id_ in tests.split())
                )
                for what in [names] if part == "behaviour" else names.split():
                    yield Row(route, part, what, nodes)


def main() -> None:
    """Print the table, and how many rows each route has."""
    console = Console(width=160)
    table = Table("route", "part", "what", title="What the API promises, and the tests that hold it")
    table.add_column("asserted by", overflow="fold")
    counts: Counter[str] = Counter()
    tests: set[str] = set()
    last = ""
    for row in rows():
        if row.route != last:
            table.add_section()
        table.add_row(
            row.route if row.route != last else "", row.part, row.what, "\n".join(row.tests).replace("tests/", "")
        )
        counts[row.part] += 1
        tests.update(row.tests)
        last = row.route
    console.print(table)
    routes = len({row.route for row in rows() if not row.route.startswith("every route")})
    parts = ", ".join(f"{count} of {part}" for part, count in counts.items())
    console.print(f"{counts.total()} rows ({parts}) on {routes} routes, held by {len(tests)} tests")


if __name__ == "__main__":
    main()
