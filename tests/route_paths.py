"""Paths for the patterns of the route table, for tests that knock at every door."""

from __future__ import annotations

import re

VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def sample_path(pattern: str) -> str:
    """A path that the pattern matches; a word that names nothing stands for each group."""
    return re.sub(r"\([^()]*\)", "anything", pattern).replace("\\", "")
