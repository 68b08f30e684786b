from __future__ import annotations

import pytest

from ollama_nb.cli.main import run
from ollama_nb.store.keys import KeyFile


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("OLLAMA_NB_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def cli(home, capsys):
    """Runs ``ollama-nb key`` where there is no server: exit code, stdout, stderr."""

    def connect():
        raise AssertionError("no server is asked")

    def call(*args):
        code = run(("key", *args), connect=connect)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_a_new_key_is_all_of_stdout_so_that_a_script_can_take_it(cli, home):
    code, out, err = cli("create", "work")
    assert code == 0
    assert out.endswith("\n")
    assert KeyFile(home).known(out.strip())
    assert err.startswith("Key work. It is shown this once; clients take it from OLLAMA_API_KEY.\n")
    assert out.strip() not in err


def test_a_key_needs_no_name(cli, home):
    _, _, err = cli("create")
    (key,) = KeyFile(home).entries()
    assert err.startswith(f"Key {key.id}. ")


def test_list_shows_what_keys_are_called_and_never_what_they_are(cli, home):
    _, text, _ = cli("create", "work")
    code, out, err = cli("list")
    (key,) = KeyFile(home).entries()
    head, row = out.splitlines()
    assert (code, err) == (0, "")
    assert head.split() == ["ID", "NAME", "CREATED"]
    assert row.split()[:2] == [key.id, "work"]
    assert row.endswith(" ago")
    assert text.strip() not in out
    assert key.sha256 not in out


def test_revoke_takes_a_name_or_an_id_and_says_when_no_key_is_left(cli, home):
    cli("create", "work")
    cli("create")
    (_, unnamed) = KeyFile(home).entries()
    assert cli("revoke", unnamed.id) == (0, f"revoked '{unnamed.id}'\n", "")
    code, out, err = cli("revoke", "work")
    assert (code, out) == (0, "revoked 'work'\n")
    assert err.startswith("There is no key left")
    assert cli("revoke", "work") == (1, "", 'Error: no key "work"\n`ollama-nb key list` shows the names and ids\n')


def test_a_name_that_is_taken_is_said(cli):
    cli("create", "work")
    code, out, err = cli("create", "work")
    assert (code, out) == (1, "")
    assert err.startswith('Error: a key "work" exists\n')


def test_without_a_subcommand_it_says_where_help_is(cli):
    assert cli() == (1, "", "Error: Missing command.\nSee `ollama-nb key --help`.\n")
