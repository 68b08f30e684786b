"""One repository of a registry, asked over loopback: what is sent, and what is made of every kind of answer."""

from __future__ import annotations

import itertools
import json

import pytest
from hostile_registry import MANIFEST_TYPE, Answer
from one_repository import BLOB, IMPATIENT, MANIFEST, challenge, reading

from ollama_nb.registry.client import Registry
from ollama_nb.registry.source import LineError
from ollama_nb.wire.errors import BadRequestError, NotFoundError, RegistryError


class TestManifest:
    def test_it_is_given_as_it_is(self, registry, talk):
        data = b'{ "schemaVersion" : 2,\n\n "layers": [1, 2, 3] }\n'
        registry.offer("library/x", data)
        assert talk(Registry.manifest) == data
        assert registry.paths() == [f"GET {MANIFEST}"]
        assert registry.asked[0].headers["accept"] == MANIFEST_TYPE

    def test_one_that_is_not_there_is_not_found(self, registry, talk):
        del registry.answers[MANIFEST]
        with pytest.raises(NotFoundError, match=r"^file does not exist$"):
            talk(Registry.manifest)

    @pytest.mark.parametrize(
        ("answer", "text"),
        [
            pytest.param(
                Answer(body=b"<!doctype html><title>Log in</title>", headers={"Content-Type": "text/html"}),
                "gives for a manifest (text/html) is not JSON",
                id="a login page",
            ),
            pytest.param(Answer(body=b""), "gives for a manifest (no content type) is not JSON", id="nothing"),
            pytest.param(Answer(body=b'{"layers": [{'), "is not JSON", id="cut short"),
            pytest.param(Answer(body=b"[" * 100_000 + b"]" * 100_000), "is not JSON", id="nested"),
            pytest.param(
                Answer(body=b" " * 5_000_000), "the manifest has 5000000 bytes, more than the 4194304", id="large"
            ),
            pytest.param(
                Answer(body=itertools.repeat(b" " * 65536, 100), length=None),
                "more than the 4194304",
                id="large, unsaid",
            ),
            pytest.param(
                Answer(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"}), "answers packed ('gzip')", id="packed"
            ),
        ],
    )
    def test_what_is_no_manifest_is_said_to_be_none(self, registry, talk, answer, text):
        registry.offer("library/x", answer)
        with pytest.raises(RegistryError) as raised:
            talk(Registry.manifest)
        assert text in raised.value.message
        assert raised.value.status == 502

    @pytest.mark.parametrize(
        ("answer", "text", "status"),
        [
            (Answer(412, b"update to 0.99"), "412: update to 0.99", 412),
            (Answer(403, b'{"errors":[{"code":"DENIED","message":"no"}]}'), "403: no", 403),
            (Answer(400, b'{"errors":[{"code":"A","message":"one"},{"code":"B"}]}'), "400: one; B", 502),
            (Answer(400, b'{"errors":[]}'), '400: {"errors":[]}', 502),
            (Answer(418, b"a\x1b[31m\r\n\x00b\xe2\x80\xaec\xff"), "418: a [31m b c�", 502),
            (Answer(418, "ä".encode() * 1000), f"418: {'ä' * 299}…", 502),
            (Answer(451, b""), "451: Said", 502),
            (Answer(204), "204: Said", 502),
        ],
        ids=lambda value: str(value.status) if isinstance(value, Answer) else None,
    )
    def test_a_refusal_is_told_in_the_registrys_own_words(self, registry, talk, answer, text, status):
        registry.offer("library/x", answer)
        with pytest.raises(RegistryError) as raised:
            talk(Registry.manifest)
        assert (raised.value.message, raised.value.status) == (text, status)
        assert registry.paths() == [f"GET {MANIFEST}"]

    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
    def test_what_may_be_over_soon_is_tried_again(self, registry, talk, status):
        answers = iter([Answer(status, headers={"Retry-After": "0"}), Answer(status), Answer(body=b"{}")])
        registry.offer("library/x", lambda _asked: next(answers))
        assert talk(Registry.manifest) == b"{}"

    def test_patience_has_an_end(self, registry, talk):
        registry.offer("library/x", Answer(503, b"come back later"))
        with pytest.raises(RegistryError, match=r"^max retries exceeded: 503: come back later$"):
            talk(Registry.manifest)
        assert registry.paths() == [f"GET {MANIFEST}"] * 3


class TestAgain:
    @pytest.mark.parametrize(
        ("text", "least", "most"),
        [
            ("0", 0, 0),
            ("7", 7, 7),
            ("86400", 60, 60),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
            ("Wed, 21 Oct 2199 07:28:00 GMT", 60, 60),
            ("soon", 0, 0),
            ("-1", 0, 0),
            ("", 0, 0),
            ("9" * 400, 60, 60),
        ],
    )
    def test_a_registry_may_ask_for_a_pause_up_to_a_minute(self, registry, talk, text, least, most):
        registry.answers[BLOB] = Answer(429, headers={"Retry-After": text})
        with pytest.raises(LineError) as raised:
            talk(reading())
        assert least <= raised.value.after <= most

    def test_work_is_tried_as_often_as_the_patience_says(self, talk):
        tries = []

        async def work():
            tries.append(1)
            raise LineError("broken line")

        with pytest.raises(RegistryError, match=r"^max retries exceeded: broken line$"):
            talk(lambda registry: registry.again(work))
        assert len(tries) == IMPATIENT.tries

    def test_any_other_error_is_no_reason_to_try_again(self, talk):
        tries = []

        async def work():
            tries.append(1)
            raise RegistryError("no")

        with pytest.raises(RegistryError, match=r"^no$"):
            talk(lambda registry: registry.again(work))
        assert len(tries) == 1

    def test_who_succeeds_gives_the_result(self, talk):
        results = iter([LineError("once"), 17])

        async def work():
            result = next(results)
            if isinstance(result, Exception):
                raise result
            return result

        assert talk(lambda registry: registry.again(work)) == 17


class TestRequest:
    def test_a_body_is_made_anew_for_the_second_sending(self, registry, talk):
        registry.answers["/v2/library/x/blobs/uploads/"] = challenge(registry)(Answer(202))
        made = []

        async def pieces():
            yield b"some "
            yield b"bytes"

        def content():
            made.append(1)
            return pieces()

        async def work(repository):
            async with repository.request("POST", "blobs/uploads/", content=content) as response:
                return response.status_code

        assert talk(work) == 202
        assert len(made) == 2
        assert registry.asked[-1].body == b"some bytes"

    @pytest.mark.parametrize("status", [200, 202, 307, 404, 416, 500])
    def test_any_status_is_given_back(self, registry, talk, status):
        registry.answers["/v2/library/x/y"] = Answer(status, b"said", {"Location": "/z"})

        async def work(repository):
            async with repository.request("PATCH", f"http://{registry.host}/v2/library/x/y") as response:
                return response.status_code, response.headers["Location"], await response.aread()

        assert talk(work) == (status, "/z", b"said")

    def test_elsewhere_no_token_is_sent(self, registry, elsewhere, talk):
        guard = challenge(registry)
        registry.offer("library/x", guard(Answer(body=b"{}")))
        elsewhere.answers["/upload"] = Answer(201)

        async def work(repository):
            await repository.manifest()
            async with repository.request("PUT", f"{elsewhere.url}/upload", content=b"x") as response:
                return response.status_code

        assert talk(work) == 201
        assert "authorization" not in elsewhere.asked[0].headers


class TestPutManifest:
    @pytest.mark.parametrize(
        ("data", "kind"),
        [
            (
                b'{"mediaType": "application/vnd.oci.image.manifest.v1+json"}',
                "application/vnd.oci.image.manifest.v1+json",
            ),
            (b"{}", MANIFEST_TYPE),
        ],
    )
    def test_it_is_sent_as_it_is_with_its_own_media_type(self, registry, talk, data, kind):
        registry.offer("library/x", Answer(201))
        talk(lambda repository: repository.put_manifest(data))
        (asked,) = registry.asked
        assert (asked.method, asked.body, asked.headers["content-type"]) == ("PUT", data, kind)

    def test_a_refusal_is_told(self, registry, talk):
        registry.offer("library/x", Answer(400, json.dumps({"errors": [{"message": "blob unknown"}]}).encode()))
        with pytest.raises(RegistryError, match=r"^400: blob unknown$"):
            talk(lambda repository: repository.put_manifest(b"{}"))

    def test_what_may_be_over_soon_is_tried_again(self, registry, talk):
        answers = iter([Answer(503), Answer(201)])
        registry.offer("library/x", lambda _asked: next(answers))
        talk(lambda repository: repository.put_manifest(b"{}"))
        assert len(registry.asked) == 2


@pytest.mark.parametrize("host", ["a:b:c", "x:port", "h:99999", f"h:{'9' * 300}"])
def test_a_host_that_cannot_be_one_is_a_bad_request(talk, host):
    with pytest.raises(BadRequestError, match=f"{host} is no host"):
        talk(Registry.manifest, host=host)
