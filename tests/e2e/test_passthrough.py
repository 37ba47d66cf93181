# SPDX-License-Identifier: MIT
"""Bodies go through byte for byte, and only what must change does."""

import gzip
import hashlib
import json
import socket
import time
import zlib

import pytest
import zstandard

from harness import (CLAUDE, CLIENT_KEY, GEMINI, MODEL_OF, OPENAI, RESPONSES,
                     SLOW, as_json, each_dialect, fresh, header, pool,
                     raw_exchange, read_events, wait_for)

# Valid JSON that no parser-and-printer would give back unchanged.
ODD = (b'\r\n {"a" : 1.0 , "b":12345678901234567890,"c":1e400,\t"d":"\\u00e9'
       b'\\/ \xc3\xa9 \xf0\x9f\x98\x80 \\ud83d\\ude00" , "e":[ ],"f":{ },'
       b'"n":null,"x":{"k":1,"k":2},"z":-0.0, "deep":{"model":"not-me"},'
       b'%b } \n')


def odd_body(dialect, stream: bool = False) -> bytes:
    fields = json.dumps(dialect.body("hi", stream=stream))[1:-1]
    return ODD % fields.encode()


@each_dialect
@pytest.mark.parametrize("stream", (False, True), ids=("whole", "stream"))
def test_body_reaches_the_provider_byte_for_byte(shared_daemon, stub, dialect,
                                                 stream):
    body = odd_body(dialect, stream)
    with shared_daemon.client() as client:
        response = client.open("POST", dialect.path(stream), body,
                               auth=dialect.auth)
        response.read()
    assert response.status == 200
    (seen,) = stub.log
    assert seen["sha256"] == hashlib.sha256(body).hexdigest()
    assert seen["size"] == len(body)


@each_dialect
@pytest.mark.parametrize("stream", (False, True), ids=("whole", "stream"))
def test_answer_reaches_the_client_byte_for_byte(shared_daemon, stub, dialect,
                                                 stream):
    """What the stub says directly is what the client gets through us."""
    body = dialect.body("same words", stream=stream)
    with shared_daemon.client() as client:
        through = client.open("POST", dialect.path(stream), body,
                              auth=dialect.auth).read()
    number = stub.log[-1]["n"]
    key = stub.log[-1]["key"]
    for cache in stub.caches.values():
        cache.__init__()
    with shared_daemon.client(key) as client:
        client.port = stub.port
        direct = client.open("POST", stub.log[-1]["path"] + (
            "?" + stub.log[-1]["query"] if stub.log[-1]["query"] else ""),
            body).read()
    direct = direct.replace(b"stub%d" % (number + 1), b"stub%d" % number)
    assert through == direct


@pytest.mark.parametrize("dialect", (CLAUDE, OPENAI, RESPONSES),
                         ids=lambda d: d.name)
@pytest.mark.parametrize("spelling", (
    '"model":"{alias}"', '"model" \t:\n "{alias}"',
    '"\\u006dodel":"{alias}"', '"model":"\\u0066{rest}"'))
def test_alias_rewrites_only_the_model_value(make_daemon, stub, dialect,
                                             spelling):
    config = pool(stub, dialect.provider, count=1)
    section = next(iter(config.values()))[0]
    section["models"] = [{"name": "real-model.v1", "alias": "fast"}]
    daemon = make_daemon(config)
    filler = json.dumps(dialect.body("hi"))[1:-1].replace(
        f'"model": "{dialect.model}", ', "")
    pair = spelling.replace("{alias}", "fast").replace("{rest}", "ast")
    before = b'{ "x":{"model":"fast"}, '
    after = b', "y":"fast","m":["model","fast"], ' + filler.encode() + b"} "
    body = before + pair.encode() + after
    answer = daemon.post(dialect.path(), body, auth=dialect.auth)
    assert answer.status == 200, answer
    sent = stub.log[-1]["body"].encode()
    start, colon, _ = pair.partition(":")
    blank = pair[len(start + colon):pair.rindex('"', 0, -1)]
    wanted = (start + colon + blank + '"real-model.v1"').encode()
    assert sent == before + wanted + after


def test_alias_rewrites_the_path_of_gemini(make_daemon, stub):
    config = pool(stub, "gemini", count=1)
    config["gemini-api-key"][0]["models"] = [
        {"name": "real-model.v1", "alias": "fast"}]
    daemon = make_daemon(config)
    body = odd_body(GEMINI)
    path = "/v1beta/models/fast:generateContent"
    assert daemon.post(path, body, auth="x-goog-api-key").status == 200
    assert stub.log[-1]["path"] == (
        "/v1beta/models/real-model.v1:generateContent")
    assert stub.log[-1]["sha256"] == hashlib.sha256(body).hexdigest()


def test_unaliased_name_is_not_served_beside_its_alias(make_daemon, stub):
    config = pool(stub, "claude", count=1)
    config["claude-api-key"][0]["models"] = [
        {"name": "real-model", "alias": "fast"}]
    daemon = make_daemon(config)
    answer = daemon.ask(CLAUDE, "hi", model="real-model")
    CLAUDE.check_error(answer, 404, "model_not_found")
    assert stub.log == []


@each_dialect
def test_body_of_five_megabytes(shared_daemon, stub, dialect):
    body = json.dumps(dialect.body("x" * (5 << 20))).encode()
    answer = shared_daemon.post(dialect.path(), body, auth=dialect.auth)
    assert answer.status == 200
    assert stub.log[-1]["sha256"] == hashlib.sha256(body).hexdigest()


CODINGS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "zstd": lambda body: zstandard.ZstdCompressor().compress(body),
    "identity": bytes,
}


@each_dialect
@pytest.mark.parametrize("coding", CODINGS)
def test_encoded_bodies_go_upstream_decoded(shared_daemon, stub, dialect,
                                            coding):
    body = json.dumps(dialect.body("word " * 60000)).encode()
    answer = shared_daemon.post(dialect.path(), CODINGS[coding](body),
                                {"content-encoding": coding},
                                auth=dialect.auth)
    assert answer.status == 200, answer
    seen = stub.log[-1]
    assert seen["sha256"] == hashlib.sha256(body).hexdigest()
    names = [name.lower() for name, _ in seen["headers"]]
    assert "content-encoding" not in names
    assert "content-length" in names


def test_zstd_streamed_without_a_size(shared_daemon, stub):
    """A streaming encoder, as Codex's, does not say how long it will be."""
    body = json.dumps(OPENAI.body("word " * 1000)).encode()
    packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    packed = packer.compress(body) + packer.flush()
    answer = shared_daemon.post(OPENAI.path(), packed,
                                {"content-encoding": "zstd"})
    assert answer.status == 200, answer
    assert stub.log[-1]["sha256"] == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("coding", ("gzip", "zstd"))
def test_several_frames_are_one_body(shared_daemon, stub, coding):
    """RFC 1952 2.2 and RFC 8878 3: members and frames may follow others."""
    body = json.dumps(OPENAI.body("word " * 1000)).encode()
    half = len(body) // 2
    data = CODINGS[coding](body[:half]) + CODINGS[coding](body[half:])
    answer = shared_daemon.post(OPENAI.path(), data,
                                {"content-encoding": coding})
    assert answer.status == 200, answer
    assert stub.log[-1]["sha256"] == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("coding, data", (
    ("gzip", b"this is not gzip"),
    ("gzip", gzip.compress(b'{"model":"gpt-stub"}')[:-6]),
    ("zstd", b"neither is this zstd"),
    ("zstd", zstandard.ZstdCompressor().compress(b"{}" * 999)[:-3]),
    ("gzip", gzip.compress(b"{not json")),
    ("br", b"\x0b\x02\x80{}\x03"),
    ("gzip, gzip, gzip, gzip, gzip, gzip, gzip, gzip, gzip", b""),
), ids=("no-gzip", "cut-gzip", "no-zstd", "cut-zstd", "gzip-of-garbage",
        "brotli", "nine-codings"))
def test_broken_encodings_are_refused(shared_daemon, stub, coding, data):
    answer = shared_daemon.post(OPENAI.path(), data,
                                {"content-encoding": coding})
    assert answer.status in (400, 415), answer
    assert as_json(answer)["error"]["message"]
    assert stub.log == []
    assert shared_daemon.ask(OPENAI, "still there?").status == 200


@pytest.mark.parametrize("coding", ("gzip", "zstd"))
def test_decompression_bomb_is_refused(make_daemon, stub, coding):
    daemon = make_daemon({**pool(stub, "openai"), "limits": {"body": "1M"}})
    bomb = CODINGS[coding](b" " * (200 << 20))
    assert len(bomb) < 1 << 20
    answer = daemon.post(OPENAI.path(), bomb, {"content-encoding": coding})
    OPENAI.check_error(answer, 413, "body_too_large")
    assert stub.log == []


def test_chunked_request_body(shared_daemon, stub):
    body = odd_body(OPENAI)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(body[i:i + 7]),
                                               body[i:i + 7])
                      for i in range(0, len(body), 7))
    reply = raw_exchange(
        shared_daemon.port,
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
        b"Authorization: Bearer %b\r\nConnection: close\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n%b0\r\nTrailer: x\r\n\r\n"
        % (CLIENT_KEY.encode(), chunks))
    assert reply.startswith(b"HTTP/1.1 200 "), reply
    assert stub.log[-1]["sha256"] == hashlib.sha256(body).hexdigest()


def test_expect_100_continue_is_answered_before_the_body(shared_daemon, stub):
    body = odd_body(OPENAI)
    with socket.create_connection(("127.0.0.1", shared_daemon.port),
                                  timeout=10 * SLOW) as sock:
        sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
                     b"Authorization: Bearer %b\r\nExpect: 100-continue\r\n"
                     b"Connection: close\r\nContent-Length: %d\r\n\r\n"
                     % (CLIENT_KEY.encode(), len(body)))
        assert sock.recv(100).startswith(b"HTTP/1.1 100 ")
        sock.sendall(body)
        reply = b""
        while data := sock.recv(65536):
            reply += data
    assert reply.startswith(b"HTTP/1.1 200 "), reply
    names = [name.lower() for name, _ in stub.log[-1]["headers"]]
    assert "expect" not in names


@pytest.mark.parametrize("given, wanted", (
    ("beta=true", "beta=true"),
    (f"key={CLIENT_KEY}", ""),
    (f"beta=true&key={CLIENT_KEY}", "beta=true"),
    (f"key={CLIENT_KEY}&beta=true", "beta=true"),
    (f"a=1&key={CLIENT_KEY}&b=2&auth_token={CLIENT_KEY}&c=%20x",
     "a=1&b=2&c=%20x"),
    (f"k%65y={CLIENT_KEY}&a=1", "a=1"),
    ("monkey=1&keyed=2&xauth_token=3", "monkey=1&keyed=2&xauth_token=3"),
))
def test_keys_leave_the_query_and_the_rest_stays(shared_daemon, stub, given,
                                                 wanted):
    answer = shared_daemon.post("/v1/messages?" + given, CLAUDE.body("hi"))
    assert answer.status == 200
    assert stub.log[-1]["query"] == wanted


@each_dialect
def test_encoded_answer_passes_unexamined(shared_daemon, stub, dialect):
    """We ask for identity; a provider that encodes all the same is passed."""
    for stream in (False, True):
        stub.fault("gzip", headers={})
        with shared_daemon.client() as client:
            response = client.open("POST", dialect.path(stream),
                                   dialect.body("hi", stream=stream),
                                   auth=dialect.auth)
            raw = response.read()
        coding = response.headers.get("content-encoding")
        assert coding == "gzip"
        text = zlib.decompress(raw, 31).decode()
        assert "Hello " in text


def test_upstream_is_asked_for_identity(shared_daemon, stub):
    shared_daemon.post(OPENAI.path(), OPENAI.body("hi"),
                       {"accept-encoding": "gzip, br"})
    values = [value for name, value in stub.log[-1]["headers"]
              if name.lower() == "accept-encoding"]
    assert values == ["identity"]


@pytest.mark.parametrize("path, provider, upstream, extra", (
    ("/v1/messages", "claude", "/v1/messages", {}),
    ("/v1/messages/count_tokens", "claude", "/v1/messages/count_tokens", {}),
    ("/v1/chat/completions", "openai", "/v1/chat/completions", {}),
    ("/v1/completions", "openai", "/v1/completions", {"prompt": "x"}),
    ("/v1/embeddings", "openai", "/v1/embeddings", {"input": "x"}),
    ("/v1/responses", "openai", "/v1/responses", {"input": "x"}),
    ("/v1/responses", "codex", "/v1/responses", {"input": "x"}),
    ("/v1/responses/compact", "codex", "/v1/responses/compact",
     {"input": "x"}),
    ("/backend-api/codex/responses", "codex", "/v1/responses",
     {"input": "x"}),
    ("/v1beta/models/gemini-stub:generateContent", "gemini",
     "/v1beta/models/gemini-stub:generateContent", {"contents": []}),
    ("/v1beta/models/gemini-stub:countTokens", "gemini",
     "/v1beta/models/gemini-stub:countTokens", {"contents": []}),
    ("/v1beta/models/vertex-stub:generateContent", "vertex",
     "/v1/publishers/google/models/vertex-stub:generateContent",
     {"contents": []}),
    ("/v1beta/models/vertex-stub:streamGenerateContent?alt=sse", "vertex",
     "/v1/publishers/google/models/vertex-stub:streamGenerateContent",
     {"contents": []}),
))
def test_every_route_has_its_upstream_path(shared_daemon, stub, path,
                                           provider, upstream, extra):
    answer = shared_daemon.post(path, {"model": MODEL_OF[provider],
                                       "messages": [], "max_tokens": 1,
                                       **extra})
    assert answer.status == 200, answer
    (seen,) = stub.log
    assert seen["path"] == upstream
    assert seen["account"].startswith(provider)


def test_gemini_stream_without_sse_is_a_json_array(shared_daemon, stub):
    answer = shared_daemon.post(
        "/v1beta/models/gemini-stub:streamGenerateContent",
        GEMINI.body("hi"), auth="x-goog-api-key")
    assert answer.status == 200
    rows = as_json(answer)
    assert isinstance(rows, list) and len(rows) == 5
    assert (header(answer, "content-type") or "").startswith(
        "application/json")


def test_embedded_events_of_a_stream_come_one_by_one(shared_daemon, stub):
    """Frames are passed on when they come, not when the answer is whole."""
    stub.fault("pace", count=3, ms=250)
    with shared_daemon.client() as client:
        response = client.open("POST", OPENAI.path(True),
                               OPENAI.body("hi", stream=True))
        times = [time.monotonic() for frame in read_events(response)
                 if "word" in frame]
    assert len(times) == 3
    assert times[1] - times[0] > 0.15
    assert times[2] - times[1] > 0.15


def test_many_requests_on_one_connection_and_pipelined(shared_daemon, stub):
    seen = fresh(stub)
    body = json.dumps(OPENAI.body("hi")).encode()
    one = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
           b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b"
           % (CLIENT_KEY.encode(), len(body), body))
    last = one.replace(b"Host: x", b"Host: x\r\nConnection: close")
    reply = raw_exchange(shared_daemon.port, one * 19 + last)
    assert reply.count(b"HTTP/1.1 200 OK\r\n") == 20
    wait_for(lambda: len(seen()) == 20, 5)
