from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from ollama_nb.settings import SETTINGS, Host, Settings
from ollama_nb.wire.durations import FOREVER, MINUTE, SECOND

NOTHING: dict[str, str] = {}


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_table_and_the_class_have_the_same_rows():
    assert [setting.field for setting in SETTINGS] + ["sources"] == list(Settings.__struct_fields__)


def test_the_class_states_the_types_of_the_table():
    written = {field: text.split("[")[0].split(" |")[0] for field, text in Settings.__annotations__.items()}
    del written["sources"]
    assert written == {setting.field: setting.kind.__name__ for setting in SETTINGS}


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_default_has_the_type_of_its_row_and_a_sentence_of_help(setting):
    assert setting.default is None or type(setting.default) is setting.kind or setting.kind is Path
    assert setting.help.endswith(".")
    assert setting.name.startswith("OLLAMA_")


def test_without_a_word_from_anyone_the_defaults_are_ollamas(home):
    settings = Settings.resolve(NOTHING)
    assert settings.host == Host("http", "127.0.0.1", 11434)
    assert settings.models == home / ".ollama" / "models"
    assert settings.keep_alive == settings.load_timeout == 5 * MINUTE
    assert (settings.num_parallel, settings.max_loaded_models, settings.max_queue) == (1, 0, 512)
    assert settings.context_length == 4096
    assert settings.flash_attention is None
    assert settings.kv_cache_type == "f16"
    assert settings.origins == ()
    assert settings.debug == 0
    assert not settings.noprune
    assert not settings.nb_allow_open
    assert set(settings.sources.values()) == {"default"}
    assert set(settings.sources) == set(Settings.__struct_fields__) - {"sources"}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("OLLAMA_HOST", "1.2.3.4", Host(host="1.2.3.4")),
        ("OLLAMA_HOST", " 1.2.3.4 ", Host(host="1.2.3.4")),
        ("OLLAMA_HOST", ' "1.2.3.4:80" ', Host(host="1.2.3.4", port=80)),
        ("OLLAMA_HOST", "'https://h'", Host("https", "h", 443)),
        ("OLLAMA_ORIGINS", "http://a,https://b:*", ("http://a", "https://b:*")),
        ("OLLAMA_ORIGINS", " http://a , ,*", ("http://a", "*")),
        ("OLLAMA_MODELS", "/models", Path("/models")),
        ("OLLAMA_KEEP_ALIVE", "10m", 10 * MINUTE),
        ("OLLAMA_KEEP_ALIVE", "3600", 60 * MINUTE),
        ("OLLAMA_KEEP_ALIVE", "0", 0),
        ("OLLAMA_KEEP_ALIVE", "-1", FOREVER),
        ("OLLAMA_KEEP_ALIVE", "-1m", FOREVER),
        ("OLLAMA_KEEP_ALIVE", "9999999999999", FOREVER),
        ("OLLAMA_LOAD_TIMEOUT", "42", 42 * SECOND),
        ("OLLAMA_LOAD_TIMEOUT", "0", FOREVER),
        ("OLLAMA_LOAD_TIMEOUT", "-1s", FOREVER),
        ("OLLAMA_NUM_PARALLEL", "4", 4),
        ("OLLAMA_NUM_PARALLEL", "0", 1),
        ("OLLAMA_MAX_LOADED_MODELS", "2", 2),
        ("OLLAMA_MAX_QUEUE", "0", 0),
        ("OLLAMA_CONTEXT_LENGTH", "8192", 8192),
        ("OLLAMA_CONTEXT_LENGTH", "0", 4096),
        ("OLLAMA_FLASH_ATTENTION", "1", True),
        ("OLLAMA_FLASH_ATTENTION", "0", False),
        ("OLLAMA_KV_CACHE_TYPE", "q8_0", "q8_0"),
        ("OLLAMA_KV_CACHE_TYPE", "Q4_0", "q4_0"),
        ("OLLAMA_DEBUG", "1", -4),
        ("OLLAMA_DEBUG", "true", -4),
        ("OLLAMA_DEBUG", "0", 0),
        ("OLLAMA_DEBUG", "false", 0),
        ("OLLAMA_DEBUG", "2", -8),
        ("OLLAMA_DEBUG", "-1", 4),
        ("OLLAMA_NB_ADDRESS", "http://127.0.0.1:8888/ollama", "http://127.0.0.1:8888/ollama"),
        *[("OLLAMA_NOPRUNE", word, True) for word in ("1", "t", "T", "TRUE", "true", "True", "yes", "random")],
        *[("OLLAMA_NOPRUNE", word, False) for word in ("0", "f", "F", "FALSE", "false", "False")],
    ],
)
def test_a_variable_is_read_as_ollama_reads_it(name, text, value, caplog):
    field = name.removeprefix("OLLAMA_").lower()
    settings = Settings.resolve({name: text})
    assert getattr(settings, field) == value
    assert type(getattr(settings, field)) is type(value)
    assert settings.sources[field] == "environment"
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("OLLAMA_HOST", "ftp://x"),
        ("OLLAMA_NUM_PARALLEL", "abc"),
        ("OLLAMA_NUM_PARALLEL", "-1"),
        ("OLLAMA_MAX_QUEUE", "1.5"),
        ("OLLAMA_MAX_QUEUE", "1_0"),
        ("OLLAMA_MAX_QUEUE", "18446744073709551616"),
        ("OLLAMA_CONTEXT_LENGTH", "9" * 5000),
        ("OLLAMA_KEEP_ALIVE", "abc"),
        ("OLLAMA_KEEP_ALIVE", "9" * 5000),
        ("OLLAMA_LOAD_TIMEOUT", "1.5"),
        ("OLLAMA_KV_CACHE_TYPE", "q3"),
        ("OLLAMA_MODELS", "~nobody-of-this-name/models"),
    ],
)
def test_a_bad_variable_gives_the_default_and_a_warning_with_its_name(name, text, caplog):
    with caplog.at_level(logging.WARNING, "ollama_nb.settings"):
        settings = Settings.resolve({name: text})
    assert settings == Settings.resolve(NOTHING)
    assert [record.name for record in caplog.records] == ["ollama_nb.settings"]
    assert caplog.records[0].getMessage().startswith(f"{name}: ")


@pytest.mark.parametrize("text", ["", "  ", '""', " '' "])
def test_an_empty_variable_is_an_absent_one(text, caplog):
    assert Settings.resolve({setting.name: text for setting in SETTINGS}) == Settings.resolve(NOTHING)
    assert not caplog.records


def test_an_option_comes_before_the_environment_and_that_before_the_default():
    settings = Settings.resolve(
        {"OLLAMA_NUM_PARALLEL": "2", "OLLAMA_MAX_QUEUE": "7"},
        {"num_parallel": "3", "max_loaded_models": None},
    )
    assert (settings.num_parallel, settings.max_queue, settings.max_loaded_models) == (3, 7, 0)
    assert settings.sources["num_parallel"] == "option"
    assert settings.sources["max_queue"] == "environment"
    assert settings.sources["max_loaded_models"] == "default"


def test_a_typed_option_is_taken_as_it_is(tmp_path):
    host = Host(host="::1", port=0)
    given = {"host": host, "models": tmp_path, "keep_alive": 7, "flash_attention": False, "origins": ["http://a"]}
    settings = Settings.resolve(NOTHING, given)
    assert (settings.host, settings.models, settings.keep_alive) == (host, tmp_path, 7)
    assert settings.flash_attention is False
    assert settings.origins == ("http://a",)


@pytest.mark.parametrize(("debug", "level"), [(True, -4), (False, 0), (-8, -8)])
def test_debug_may_be_a_flag_or_a_level(debug, level):
    assert Settings.resolve(NOTHING, {"debug": debug}).debug == level


@pytest.mark.parametrize(
    "option",
    [{"num_parallel": 1.5}, {"num_parallel": True}, {"noprune": 1}, {"host": 80}, {"no_such_setting": 1}],
)
def test_an_option_of_the_wrong_type_or_name_is_a_type_error(option):
    with pytest.raises(TypeError, match=next(iter(option))):
        Settings.resolve(NOTHING, option)


def test_a_typed_option_out_of_range_is_a_value_error():
    with pytest.raises(ValueError, match="-1 is negative"):
        Settings.resolve(NOTHING, {"max_queue": -1})


def test_the_process_environment_is_read_when_none_is_given(monkeypatch):
    monkeypatch.setenv("OLLAMA_MAX_QUEUE", "3")
    assert Settings.resolve().max_queue == 3


def test_settings_cannot_be_changed():
    settings = Settings.resolve(NOTHING)
    with pytest.raises(AttributeError):
        settings.max_queue = 1
    with pytest.raises(TypeError):
        settings.sources["max_queue"] = "option"
    assert msgspec.structs.replace(settings, max_queue=1).max_queue == 1


def test_settings_load_nothing_heavier_than_msgspec():
    program = "import sys; before = set(sys.modules); import ollama_nb.settings; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    outside = {name.split(".")[0] for name in loaded.split()} - set(sys.stdlib_module_names)
    assert outside - {"typing_extensions"} == {"ollama_nb", "msgspec"}  # msgspec's own, where it is installed
