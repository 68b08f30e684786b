from __future__ import annotations

import hashlib
import threading
from contextlib import closing

import psutil
import pytest
from http_calls import connect, exchange, request_head, until

MIB = 1 << 20


def digest_of(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def files(store):
    return sorted(path.name for path in (store / "blobs").iterdir())


@pytest.fixture
def untouched(workshop_store):
    """The names in the blobs folder must be the same after the test."""
    before = files(workshop_store)
    yield
    until(lambda: files(workshop_store) == before, "the blobs folder to be as it was")


def test_a_blob_is_stored_once(bench, workshop_store):
    data = b"a blob of this test"
    digest = digest_of(data)
    assert bench.head(f"/api/blobs/{digest}").status_code == 404
    for status in (201, 200):
        response = bench.post(f"/api/blobs/{digest}", content=data)
        assert (response.status_code, response.content) == (status, b"")
    assert bench.head(f"/api/blobs/{digest}").status_code == 200
    assert (workshop_store / "blobs" / digest.replace(":", "-")).read_bytes() == data


def test_an_empty_blob_is_a_blob(bench):
    assert bench.post(f"/api/blobs/{digest_of(b'')}", content=b"").status_code == 201
    assert bench.head(f"/api/blobs/{digest_of(b'')}").status_code == 200


def test_a_blob_that_is_there_needs_no_body(bench):
    data = b"sent once"
    bench.post(f"/api/blobs/{digest_of(data)}", content=data)
    assert bench.post(f"/api/blobs/{digest_of(data)}", content=b"").status_code == 200


@pytest.mark.parametrize("form", ["sha256-{}", "sha256:{}"])
@pytest.mark.parametrize("spelling", [str.lower, str.upper])
def test_every_form_of_a_digest_finds_the_blob(bench, form, spelling):
    data = b"found under many names"
    bench.post(f"/api/blobs/{digest_of(data)}", content=data)
    path = "/api/blobs/" + form.format(spelling(hashlib.sha256(data).hexdigest()))
    assert bench.head(path).status_code == 200
    assert bench.post(path, content=data).status_code == 200


@pytest.mark.usefixtures("untouched")
def test_what_does_not_match_its_digest_is_not_kept(bench):
    expected, got = digest_of(b"promised"), digest_of(b"delivered")
    response = bench.post(f"/api/blobs/{expected}", content=b"delivered")
    assert response.status_code == 400
    assert response.json() == {"error": f'digest mismatch, expected "{expected}", got "{got}"'}


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    "digest",
    [
        "sha256:" + "0" * 63, "sha256:" + "0" * 65, "sha256:" + "g" * 64, "sha256", "sha256:", "0" * 64,
        "sha512:" + "0" * 64, "..%2F..%2Fx", "sha256:..%2F..%2Fx", "sha256-..%2f..%2f..%2fetc%2fpasswd",
        "sha256:" + "0" * 64 + "%00", "sha256:" + "0" * 64 + "%0a", "%2e%2e%2fmanifests", "sha256:" + "0" * 63 + "%2f",
        "sha256%3A%2E%2E%5Cx",
    ],
)  # fmt: skip
def test_a_digest_that_is_none_is_refused(bench, digest):
    response = bench.post(f"/api/blobs/{digest}", content=b"x")
    assert (response.status_code, response.json()) == (400, {"error": "invalid digest format"})
    head = bench.head(f"/api/blobs/{digest}")
    assert (head.status_code, head.content) == (400, b"")


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("path", ["/api/blobs/../../../etc/passwd", "/api/blobs/..", "/api/blobs/", "/api/blobs/a/b"])
def test_a_digest_is_one_segment_of_a_path(workshop, path):
    data = request_head("POST", path, workshop.url, Content_Length="1", Connection="close") + b"x"
    status, _, _ = exchange(workshop.url, data)
    assert status in (301, 400, 404)


def test_blobs_cannot_be_read(bench):
    response = bench.get(f"/api/blobs/{digest_of(b'')}")
    assert (response.status_code, response.headers["allow"]) == (405, "HEAD, POST")


@pytest.mark.usefixtures("untouched")
def test_an_upload_that_breaks_off_leaves_no_file(workshop, workshop_store):
    head = request_head("POST", f"/api/blobs/{digest_of(b'never')}", workshop.url, Content_Length=str(10 * MIB))
    before = files(workshop_store)
    with closing(connect(workshop.url)) as connection:
        connection.sendall(head + bytes(MIB))
        until(lambda: files(workshop_store) != before, "the upload to begin")


@pytest.mark.usefixtures("untouched")
def test_uploads_that_break_off_at_once_leave_nothing(workshop, bench):
    for body in (b"", b"x") * 10:
        head = request_head("POST", f"/api/blobs/{digest_of(b'never')}", workshop.url, Content_Length="100")
        with closing(connect(workshop.url)) as connection:
            connection.sendall(head + body)
    assert bench.get("/api/version").status_code == 200


def zeros(count):
    piece = bytes(MIB)
    for _ in range(count):
        yield piece


def test_a_blob_of_any_size_passes_through_without_standing_in_memory(workshop, bench, workshop_store):
    size = 160  # MiB: more than Tornado's limits for bodies (100 MiB) and buffers
    digest = hashlib.sha256()
    for piece in zeros(size):
        digest.update(piece)
    path = f"/api/blobs/sha256:{digest.hexdigest()}"
    process = psutil.Process(workshop.pid)
    before = process.memory_info().rss
    peak, done = [before], threading.Event()

    def watch():
        while not done.wait(0.01):
            peak.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        response = bench.post(path, content=zeros(size), headers={"Content-Length": str(size * MIB)})
    finally:
        done.set()
        watcher.join()
    assert response.status_code == 201
    assert max(peak) - before < 40 * MIB
    blob = workshop_store / "blobs" / f"sha256-{digest.hexdigest()}"
    assert blob.stat().st_size == size * MIB
    blob.unlink()


def test_a_body_in_chunks_is_taken_too(bench):
    data = [b"in ", b"pieces ", b"without a length"]
    assert bench.post(f"/api/blobs/{digest_of(b''.join(data))}", content=iter(data)).status_code == 201


def test_the_same_blob_may_arrive_twice_at_once(workshop, workshop_store):
    data = b"x" * MIB
    digest = digest_of(data)
    head = request_head("POST", f"/api/blobs/{digest}", workshop.url, Content_Length=str(len(data)), Connection="close")
    with closing(connect(workshop.url)) as first, closing(connect(workshop.url)) as second:
        for connection in (first, second):
            connection.sendall(head + data[:1000])
        before = files(workshop_store)
        assert digest.replace(":", "-") not in before
        for connection in (first, second):
            connection.sendall(data[1000:])
        for connection in (first, second):
            assert connection.recv(100).startswith(b"HTTP/1.1 201 ")
    assert (workshop_store / "blobs" / digest.replace(":", "-")).read_bytes() == data
    until(lambda: all(len(name) == 71 for name in files(workshop_store)), "the temporary files to be gone")


def test_who_waits_for_leave_to_send_gets_it(workshop):
    data = b"expected"
    path = f"/api/blobs/{digest_of(data)}"
    head = request_head("POST", path, workshop.url, Content_Length=str(len(data)), Expect="100-continue")
    with closing(connect(workshop.url)) as connection:
        connection.sendall(head)
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(data)
        assert connection.recv(100).startswith(b"HTTP/1.1 201 ")


def test_a_store_that_cannot_take_a_blob_is_said(tmp_path, start, make_store):
    store = make_store(tmp_path / "models")
    with start(tmp_path) as server:
        (store / "blobs").rename(store / "elsewhere")
        (store / "blobs").write_text("in the way")
        head = request_head("POST", f"/api/blobs/{digest_of(b'x')}", server.url, Content_Length="1", Connection="close")
        status, _, body = exchange(server.url, head + b"x")
        assert status == 500
        assert b"ensure path elements are traversable" in body
        (store / "blobs").unlink()
        (store / "elsewhere").rename(store / "blobs")
        assert exchange(server.url, head + b"x")[0] == 201
