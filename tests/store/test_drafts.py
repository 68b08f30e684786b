"""Drafts: the same request gives the layers, the order and the digests that Ollama gives."""

import hashlib

import pytest

from ollama_nb.store.blobs import MAX_TEXT_BLOB
from ollama_nb.store.drafts import ModelDraft, check_file_names, detect_type
from ollama_nb.store.manifests import Layer, MediaType, encode_config
from ollama_nb.wire.errors import BadRequestError
from ollama_nb.wire.names import parse_name

EMPTY_GGUF = "sha256:a4e5e156ddec27e286f75328784d7106b60a4eb1d246e950a001a3f944fbda99"
EMPTY_CONFIG = "sha256:ca239d7bd8ea90e4a5d2e6bf88f8d74a47b14336e73eb4e18bed4dd325018116"
PARAMS = "sha256:1d0ad71299d48c2fb7ae2b98e683643e771f8a5b72be34942af90d97a91c1e37"
TEMPLATE = "sha256:b507b9c2f6ca642bffcd06665ea7c91f235fd32daeefdf875a0f938db05fb315"
ABSENT = "sha256:" + "0" * 64

X, Y = parse_name("x"), parse_name("ns/y:tag")


def ignore(status: str) -> None:
    """Takes status lines that the test does not look at."""


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def kinds(layers) -> list[str]:
    return [layer.media_type.removeprefix("application/vnd.ollama.image.") for layer in layers]


@pytest.fixture
def put(store):
    return lambda data: store.blobs.put(data)[0]


@pytest.fixture
def draft(store, put, tiny_gguf):
    return ModelDraft.from_gguf({"test.gguf": put(tiny_gguf())}, store.blobs, ignore)


def test_the_digests_are_ollamas(store, draft):
    complete = draft.apply(
        template="{{ .Prompt }}", params={"top_k": 10, "temperature": 1.0, "stop": ["USER:", "ASSISTANT:"]}
    )
    layers, _ = complete.write(store.blobs, ignore)
    assert [layer.digest for layer in layers] == [EMPTY_GGUF, TEMPLATE, PARAMS]
    assert layers[0] == Layer(MediaType.MODEL, EMPTY_GGUF, 24), "where the file lies is nobody's business"
    _, config = draft.write(store.blobs, ignore)
    assert digest(encode_config(config)) == EMPTY_CONFIG


def test_the_layers_have_a_fixed_order_and_each_a_status_line(store, put, tiny_gguf):
    put(b"known license")
    lines = []
    files = {
        "b-adapter.gguf": put(tiny_gguf({"general.type": "adapter", "general.architecture": "llama"})),
        "a-projector.gguf": put(tiny_gguf({"general.type": "projector", "general.architecture": "clip"})),
        "c-model.gguf": put(tiny_gguf({"general.architecture": "llama", "general.file_type": 15})),
    }
    draft = ModelDraft.from_gguf(files, store.blobs, lines.append).apply(
        messages=[{"content": "hi", "role": "user"}],
        params={"stop": ["<|end|>"]},
        licenses=["known license", "", "new license"],
        system="You are Mario.",
        template="{{ .Prompt }}",
    )
    assert lines == ["parsing GGUF"] * 3
    lines.clear()
    layers, config = draft.write(store.blobs, lines.append)
    assert kinds(layers) == [
        *("model", "projector", "adapter", "template", "system", "license", "license", "params", "messages")
    ]
    existing = {0, 1, 2, 5}
    assert lines == [
        f"{'using existing' if position in existing else 'creating new'} layer {layer.digest}"
        for position, layer in enumerate(layers)
    ]
    assert store.blobs.read(layers[-1].digest) == b'[{"role":"user","content":"hi"}]\n'
    assert store.blobs.read(layers[-2].digest) == b'{"stop":["\\u003c|end|\\u003e"]}\n'
    assert store.blobs.read(layers[4].digest) == b"You are Mario."
    assert (config.model_format, config.model_family, config.file_type) == ("gguf", "llama", "Q4_K_M")
    assert config.model_families == ("llama", "clip", "llama")
    assert config.rootfs.diff_ids == tuple(layer.digest for layer in layers)


def test_a_projector_is_known_by_its_blocks_too(store, put, tiny_gguf):
    file = put(tiny_gguf({"general.architecture": "clip", "clip.vision.block_count": 2}))
    draft = ModelDraft.from_gguf({"mmproj.gguf": file}, store.blobs, ignore)
    assert kinds(draft.layers) == ["projector"]


def test_nothing_is_written_before_the_draft_is(store, draft):
    before = sorted(store.blobs.directory.iterdir())
    draft.apply(template="x", system="y", params={"seed": 1})
    assert sorted(store.blobs.directory.iterdir()) == before


def base(store, draft):
    complete = draft.apply(
        template="old template",
        system="old system",
        licenses=["old license"],
        params={"stop": ["a", "b"], "temperature": 0.5, "seed": 1},
        messages=[{"role": "user", "content": "old"}],
    )
    store.create(Y, complete, ignore)
    return ModelDraft.from_model(store.get(Y))


def test_a_model_of_a_model_shares_its_layers_and_says_so(store, draft):
    first = base(store, draft)
    assert all(layer.from_ == "ns/y:tag" for layer in first.layers)
    assert [layer.digest for layer in first.layers] == [layer.digest for layer in store.get(Y).manifest.layers]
    store.create(X, first, ignore)
    assert store.get(X).config == store.get(Y).config


@pytest.mark.parametrize(
    ("overrides", "field", "expected"),
    [
        ({"template": "new"}, "template", "new"),
        ({"template": ""}, "template", "old template"),
        ({"system": "new"}, "system", "new"),
        ({"system": ""}, "system", "old system"),
        ({"licenses": ["new", "more"]}, "licenses", ["old license", "new", "more"]),
        ({"licenses": [""]}, "licenses", ["old license"]),
        ({"params": {"stop": ["c"]}}, "params", {"stop": ["c"], "temperature": 0.5, "seed": 1}),
        (
            {"params": {"top_k": 3, "seed": 2}},
            "params",
            {"stop": ["a", "b"], "temperature": 0.5, "seed": 2, "top_k": 3},
        ),
        ({"params": {}}, "params", {"stop": ["a", "b"], "temperature": 0.5, "seed": 1}),
        (
            {"messages": [{"role": "assistant", "content": "new"}]},
            "messages",
            [{"role": "assistant", "content": "new"}],
        ),
        ({"messages": []}, "messages", [{"role": "user", "content": "old"}]),
        ({}, "template", "old template"),
    ],
)
def test_what_is_set_replaces_or_adds_by_ollamas_rules(store, draft, overrides, field, expected):
    store.create(X, base(store, draft).apply(**overrides), ignore)
    assert getattr(store.get(X), field) == expected
    unchanged = {"template", "system", "licenses", "params", "messages"} - {field}
    for other in unchanged:
        assert getattr(store.get(X), other) == getattr(store.get(Y), other)


def test_what_is_set_comes_behind_what_is_kept(store, draft):
    layers = base(store, draft).apply(template="new", licenses=["more"]).layers
    assert kinds(layers) == ["model", "system", "license", "messages", "template", "license", "params"]


def test_settings_in_two_steps_are_those_in_one(store, draft):
    twice = draft.apply(template="t", params={"stop": ["a"]}).apply(system="s", params={"seed": 1})
    once = draft.apply(template="t", system="s", params={"stop": ["a"], "seed": 1})
    assert twice == once


def test_a_legacy_prompt_layer_gives_way_to_a_template(store, draft, put):
    old = Layer(MediaType.PROMPT, put(b"legacy"), 6)
    layers, config = draft.write(store.blobs, ignore)
    store.write_model(Y, [*layers, old], config)
    assert store.get(Y).template == "legacy"
    assert kinds(ModelDraft.from_model(store.get(Y)).apply(template="new").layers) == ["model", "template"]


def test_a_known_template_comes_with_the_files_and_has_its_own_status_line(store, draft):
    lines = []
    known = draft.with_known_template("chatml", "{{ .Prompt }}", {"stop": ["USER:"]})
    assert kinds(known.layers) == ["model", "template", "params"]
    layers, _ = known.apply(system="s").write(store.blobs, lines.append)
    assert kinds(layers) == ["model", "template", "system", "params"]
    assert lines == [
        f"using existing layer {EMPTY_GGUF}",
        "using autodetected template chatml",
        f"creating new layer {layers[2].digest}",
        f"creating new layer {layers[3].digest}",
    ]
    assert store.blobs.read(layers[-1].digest) == b'{"stop":["USER:"]}\n'


def test_what_a_request_sets_goes_over_a_known_template(store, draft):
    lines = []
    known = draft.with_known_template("chatml", "known", {"stop": ["USER:"]})
    store.create(X, known.apply(template="{{ .Prompt }}", params={"seed": 1}), lines.append)
    model = store.get(X)
    assert (model.template, model.params) == ("{{ .Prompt }}", {"stop": ["USER:"], "seed": 1})
    assert "using autodetected template chatml" not in lines
    store.create(Y, known.apply(params={"stop": ["</s>"]}), ignore)
    assert store.get(Y).params == {"stop": ["</s>"]}


def test_an_adapter_comes_behind_the_base_layers(store, draft, put, tiny_gguf):
    file = put(tiny_gguf({"general.type": "adapter", "general.architecture": "llama"}))
    adapted = draft.with_adapters({"lora.gguf": file}, store.blobs, ignore)
    assert kinds(adapted.layers) == ["model", "adapter"]
    assert adapted.config.model_families == ("unknown", "llama")
    assert adapted.config.model_family == "unknown"


def test_one_adapter_and_nothing_else_is_taken_as_one(store, draft, put, tiny_gguf):
    file = put(tiny_gguf({"general.type": "adapter"}))
    with pytest.raises(BadRequestError, match=r"^only one adapter is currently supported$"):
        draft.with_adapters({"a.gguf": file, "b.gguf": file}, store.blobs, ignore)
    with pytest.raises(BadRequestError, match=r"^m.gguf is no adapter but a model$"):
        draft.with_adapters({"m.gguf": EMPTY_GGUF}, store.blobs, ignore)


@pytest.mark.parametrize("method", ["from_gguf", "with_adapters"])
@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("text", "supplied file was not in GGUF format"),
        ("sha256:../../etc/passwd", "invalid digest format"),
        ("", "invalid digest format"),
        (ABSENT, f'blob "{ABSENT}" not found'),
    ],
)
def test_files_that_will_not_do_are_refused_in_ollamas_words(store, draft, put, *, method, file, text):
    digest = put(b"no gguf") if file == "text" else file
    with pytest.raises(BadRequestError) as caught:
        getattr(ModelDraft if method == "from_gguf" else draft, method)({"x": digest}, store.blobs, ignore)
    assert caught.value.message == text


@pytest.mark.parametrize("names", [[], ["x.bin"], ["x", "y.json"]])
def test_files_of_no_known_kind_are_refused(store, put, names):
    with pytest.raises(BadRequestError, match=r"^unknown type$"):
        detect_type(dict.fromkeys(names, put(b"no gguf")), store.blobs)


def test_the_weights_can_be_replaced_by_smaller_ones(store, draft, put, tiny_gguf):
    smaller = put(tiny_gguf({"general.architecture": "unknown", "general.file_type": 15}))
    quantized = draft.with_weights(smaller, store.blobs).apply(system="S")
    assert quantized.weights == smaller
    assert quantized.config.file_type == "Q4_K_M"
    assert [layer.media_type for layer in quantized.layers] == [MediaType.MODEL, MediaType.SYSTEM]
    assert quantized.config.model_family == draft.config.model_family


@pytest.mark.parametrize("length", [4, 8, 23])
def test_a_truncated_gguf_is_an_error_of_the_request(store, put, tiny_gguf, length):
    file = put(tiny_gguf()[:length])
    with pytest.raises(BadRequestError):
        ModelDraft.from_gguf({"x.gguf": file}, store.blobs, ignore)


def test_a_blob_that_went_away_stops_the_writing(store, draft):
    store.blobs.remove(EMPTY_GGUF)
    with pytest.raises(BadRequestError) as caught:
        draft.write(store.blobs, ignore)
    assert caught.value.message == f'blob "{EMPTY_GGUF}" not found'


@pytest.mark.parametrize("name", ["x.gguf", "a/b/x.gguf", "..x", "a..b", "...", "x y", "é.gguf"])
def test_relative_names_are_taken(name):
    check_file_names({"ok": "", name: ""})


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "/x",
        "../x",
        "a/../x",
        "a/..",
        "./x",
        "a/./x",
        "a//x",
        "a/",
        "\\x",
        "\\\\h\\x",
        "a\\..\\x",
        "C:\\x",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(BadRequestError, match=r"^file path must be relative$"):
        check_file_names({"ok": "", name: ""})


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["model.safetensors", "config.json"], "safetensors"),
        (["x.gguf", "model.safetensors"], "safetensors"),
        (["x.gguf"], "gguf"),
        (["no-extension"], "gguf"),
    ],
)
def test_the_type_is_known_by_name_or_by_content(store, put, tiny_gguf, names, kind):
    file = put(tiny_gguf())
    assert detect_type(dict.fromkeys(names, file), store.blobs) == kind


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"system": "x" * (MAX_TEXT_BLOB + 1)}, "system: 16777217 bytes are too many, 16777216 is the most"),
        ({"licenses": ["x" * MAX_TEXT_BLOB, "é" * MAX_TEXT_BLOB]}, "license: 33554432 bytes are too many"),
        ({"messages": [{"role": "user", "content": "x" * MAX_TEXT_BLOB}]}, "messages: 167772"),
        ({"params": {"stop": ["x" * MAX_TEXT_BLOB]}}, "params: 167772"),
    ],
)
def test_a_text_that_could_not_be_read_again_is_refused(settings, told):
    with pytest.raises(BadRequestError) as caught:
        ModelDraft.empty().apply(**settings)
    assert caught.value.message.startswith(told)
