from __future__ import annotations

import logging
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_nb.wire.host import Host


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        (":1234", "http://:1234"),
        ("1.2.3.4:1234", "http://1.2.3.4:1234"),
        ("example.com", "http://example.com:11434"),
        ("example.com:1234", "http://example.com:1234"),
        ("example.com:0", "http://example.com:0"),
        ("example.com:65535", "http://example.com:65535"),
        ("[::1]", "http://[::1]:11434"),
        ("::1", "http://[::1]:11434"),
        ("[::]:1234", "http://[::]:1234"),
        ("[0:0::1]:1234", "http://[::1]:1234"),
        ("fe80::1%eth0", "http://[fe80::1%25eth0]:11434"),
        ("http://1.2.3.4", "http://1.2.3.4:80"),
        ("https://1.2.3.4", "https://1.2.3.4:443"),
        ("https://example.com:8080", "https://example.com:8080"),
        ("https://[::1]", "https://[::1]:443"),
        (" 1.2.3.4 ", "http://1.2.3.4:11434"),
        ("example.com/", "http://example.com:11434"),
        ("example.com:56789/", "http://example.com:56789"),
        ("example.com/ollama", "http://example.com:11434/ollama"),
        ("https://example.com/user/lab/ollama/", "https://example.com:443/user/lab/ollama"),
    ],
)
def test_an_address_is_completed_as_ollama_completes_it(text, url, caplog):
    assert Host.parse(text).url == url
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("1.2.3.4:66000", 11434),
        (":65536", 11434),
        (":-1", 11434),
        ("example.com:", 11434),
        ("example.com:http", 11434),
        ("example.com:" + "9" * 5000, 11434),
        ("http://example.com:x", 80),
        ("https://example.com:x", 443),
    ],
)
def test_an_impossible_port_gives_the_default_and_a_warning(text, port, caplog):
    with caplog.at_level(logging.WARNING, "ollama_nb.settings"):
        assert Host.parse(text).port == port
    assert "invalid port" in caplog.text


@pytest.mark.parametrize(
    "text",
    ["ftp://example.com", "two words", "user@example.com", "a:b:c", "exa[mple", "h?q", "a#b", "a\\b"],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match="is not"):
        Host.parse(text)


@pytest.mark.parametrize(
    ("text", "client_url", "address"),
    [
        (str(IPv4Address(0)), "http://127.0.0.1:11434", (str(IPv4Address(0)), 11434)),
        (":8080", "http://127.0.0.1:8080", ("", 8080)),
        ("[::]:8080", "http://[::1]:8080", ("::", 8080)),
        ("192.168.1.5:80/x", "http://192.168.1.5:80/x", ("192.168.1.5", 80)),
    ],
)
def test_clients_reach_a_server_on_all_interfaces_by_loopback(text, client_url, address):
    host = Host.parse(text)
    assert (host.client_url, host.address) == (client_url, address)


@given(
    st.sampled_from(["http", "https"]),
    st.one_of(
        st.ip_addresses().map(str),
        st.from_regex(r"[a-z][a-z0-9.-]{0,30}", fullmatch=True),
    ),
    st.integers(0, 65535),
    st.sampled_from(["", "/a", "/a/b"]),
)
def test_a_url_reads_back_as_the_same_host(scheme, host, port, path):
    value = Host(scheme, host, port, path)
    assert Host.parse(value.url) == value


@given(st.text() | st.text("[]:/.h0%"))
def test_any_text_is_a_host_or_a_value_error(text):
    try:
        host = Host.parse(text)
    except ValueError:
        return
    assert 0 <= host.port <= 65535
    assert Host.parse(host.url) == host or host.host == ""
