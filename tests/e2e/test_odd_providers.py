# SPDX-License-Identifier: MIT
"""Providers that are within their rights, or not, but never usual."""

import json

import pytest

from harness import (CLAUDE, OPENAI, RESPONSES, as_json, each_dialect,
                     frame_data, merged, pool)

SSE = "text/event-stream"


def raw_answer(body: bytes, kind: str = SSE, more: str = "",
               before: str = "", status: str = "200 OK") -> str:
    """An HTTP answer as text for the stub's `raw` fault."""
    return (before + f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{more}"
            f"content-length: {len(body)}\r\n\r\n" + body.decode("latin-1"))


def answered(daemon, dialect, stream=True):
    with daemon.client() as client:
        response = client.open("POST", dialect.path(stream),
                               dialect.body("hi", stream=stream),
                               auth=dialect.auth)
        return response, response.read()


def chunk(text: str) -> bytes:
    return json.dumps({"id": "x", "object": "chat.completion.chunk",
                       "choices": [{"index": 0, "delta": {"content": text},
                                    "finish_reason": None}]}).encode()


ODD_STREAMS = {
    "crlf": b"data: " + chunk("a") + b"\r\n\r\ndata: [DONE]\r\n\r\n",
    "comments": b": hello\n\n:\n\ndata: " + chunk("a")
                + b"\n: in between\n\ndata: [DONE]\n\n",
    "id-and-retry": b"id: 7\nretry: 3000\ndata: " + chunk("a")
                    + b"\n\ndata: [DONE]\n\n",
    "no-space": b"data:" + chunk("a") + b"\n\ndata:[DONE]\n\n",
    "two-data-lines": b'data: {"choices":[{"index":0,"delta":\n'
                      b'data: {"content":"a"}}]}\n\ndata: [DONE]\n\n',
    "blank-lines": b"\n\n\n\ndata: " + chunk("a") + b"\n\n\n\n"
                   b"data: [DONE]\n\n",
    "byte-order-mark": b"\xef\xbb\xbfdata: " + chunk("a")
                       + b"\n\ndata: [DONE]\n\n",
    "utf-8": b"data: " + chunk("\u00e9\U0001f600") + b"\n\n"
             + 'data: {"choices":[{"index":0,"delta":{"content":"é😀"}}]}'
             .encode() + b"\n\ndata: [DONE]\n\n",
    "more-after-the-end": b"data: " + chunk("a") + b"\n\ndata: [DONE]\n\n"
                          b": bye\n\n",
}


@pytest.mark.parametrize("name", ODD_STREAMS)
@pytest.mark.parametrize("framing", ("length", "bytes"))
def test_odd_but_legal_streams_pass_byte_for_byte(daemon, stub, name,
                                                  framing):
    body = ODD_STREAMS[name]
    if framing == "length":
        text = raw_answer(body)
    else:
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
        text = ("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                "transfer-encoding: chunked\r\n\r\n"
                + chunks.decode("latin-1") + "0\r\n\r\n")
    stub.fault("raw", text=text)
    response, data = answered(daemon, OPENAI)
    assert response.status == 200
    assert data == body
    assert len(stub.log) == 1


@each_dialect
def test_frames_of_any_size_pass(daemon, stub, dialect):
    """Frames are scanned, never kept whole."""
    stub.fault("huge", mb=2, piece=700000)
    status, frames = daemon.stream(dialect, "hi")
    assert status == 200 and dialect.complete(frames)
    assert dialect.stream_text(frames).count("x" * 700000) >= 3


@pytest.mark.parametrize("before", (
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n",
    "HTTP/1.1 102 Processing\r\n\r\n" * 3))
@pytest.mark.parametrize("stream", (False, True), ids=("whole", "stream"))
def test_interim_answers_are_not_the_answer(daemon, stub, before, stream):
    body = (ODD_STREAMS["crlf"] if stream else b'{"choices":[]}')
    stub.fault("raw", text=raw_answer(body, SSE if stream else
                                      "application/json", before=before))
    response, data = answered(daemon, OPENAI, stream)
    assert (response.status, data) == (200, body)


@each_dialect
@pytest.mark.parametrize("body", (b"", b"\n\n", b": only a comment\n\n"))
def test_empty_stream_is_a_failure(daemon, stub, dialect, body):
    stub.fault("raw", text=raw_answer(body))
    status, frames = daemon.stream(dialect, "hi")
    assert status == 200 and dialect.complete(frames), frames
    assert len(stub.log) == 2


def test_json_instead_of_a_stream_passes(daemon, stub):
    """A provider that ignores `stream`."""
    body = b'{"choices": [{"message": {"content": "x"}}]}'
    stub.fault("raw", text=raw_answer(body, "application/json"))
    response, data = answered(daemon, OPENAI)
    assert (response.status, data) == (200, body)
    assert response.getheader("content-type") == "application/json"
    assert len(stub.log) == 1


def test_no_content_is_no_answer(daemon, stub):
    stub.fault("raw", text="HTTP/1.1 204 No Content\r\n\r\n")
    response, data = answered(daemon, OPENAI, False)
    assert response.status == 200 and data
    assert len(stub.log) == 2
    assert daemon.ask(OPENAI, "again").status == 200


def test_trailers_are_dropped(daemon, stub):
    stub.fault("raw", text="HTTP/1.1 200 OK\r\ncontent-type: "
               "application/json\r\ntransfer-encoding: chunked\r\n"
               "trailer: x-sum\r\n\r\n2\r\n{}\r\n0\r\nx-sum: 1\r\n\r\n")
    response, data = answered(daemon, OPENAI, False)
    assert (response.status, data) == (200, b"{}")
    assert response.getheader("x-sum") is None


@pytest.mark.parametrize("size", (300_000, 3_000_000))
def test_head_without_measure_is_refused(make_daemon, stub, size):
    daemon = make_daemon(merged(pool(stub, "openai"), {
        "transient-error-cooldown": "0s"}))
    stub.fault("raw", times=-1, text=raw_answer(
        b"{}", "application/json", f"x-big: {'y' * size}\r\n"))
    answer = daemon.ask(OPENAI, "hi")
    assert answer.status == 502, answer
    assert as_json(answer)["error"]["message"]
    stub.faults = []
    assert daemon.ask(OPENAI, "hi").status == 200


@pytest.mark.parametrize("text", (
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 7\r\n\r\n{}",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n{}",
    "HTTP/9.9 200 OK\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "\r\n\r\n", "\0" * 99,
), ids=("two-lengths", "bad-chunk", "minus", "version", "status", "blank",
        "zeros"))
def test_broken_answers_never_look_whole(daemon, stub, text):
    """Whatever it is, the client gets an error or another's answer."""
    stub.fault("raw", text=text)
    answer = daemon.ask(OPENAI, "hi")
    assert answer.status in (200, 502), answer
    if answer.status == 200:
        assert OPENAI.text(as_json(answer)).startswith("Hello")


def test_error_inside_a_200_that_is_no_stream(daemon, stub):
    """Passed as it came: only a stream can be judged by its frames."""
    stub.fault("overloaded")
    answer = daemon.ask(CLAUDE, "hi")
    assert answer.status == 200
    data = as_json(answer)
    assert data["type"] in ("error", "message")


def test_error_status_with_a_stream_content_type(daemon, stub):
    stub.fault("raw", text=raw_answer(
        b'event: error\ndata: {"type":"error","error":{"type":'
        b'"overloaded_error","message":"x"}}\n\n', SSE,
        status="529 Overloaded"))
    status, frames = daemon.stream(CLAUDE, "hi")
    assert status == 200 and CLAUDE.complete(frames)
    assert len(stub.log) == 2


def test_long_error_bodies_pass_whole(daemon, stub):
    body = {"error": {"message": "m" * 30000, "type": "x"}}
    stub.fault("status", code=400, body=body)
    answer = daemon.ask(OPENAI, "hi")
    assert answer.status == 400
    assert as_json(answer) == body


def test_secrets_of_an_upstream_error_reach_no_log(daemon, stub):
    """An upstream that echoes the key: it goes to nobody's log."""
    body = {"error": {"message": "bad key canary-up-openai1"}}
    stub.fault("status", code=401, body=body, times=2)
    assert daemon.ask(OPENAI, "hi").status == 401
    assert daemon.ctl("credentials")


def test_model_at_the_very_end_of_a_big_body(daemon, stub):
    fields = OPENAI.body("x" * (3 << 20))
    fields["model"] = fields.pop("model")
    fields["stream"] = True
    with daemon.client() as client:
        response = client.open("POST", OPENAI.path(), fields)
        assert response.status == 200
        assert b"[DONE]" in response.read()


def test_unknown_events_of_tomorrow_pass(daemon, stub):
    body = (b'event: response.created\ndata: {"type":"response.created",'
            b'"sequence_number":0,"response":{"id":"r"}}\n\n'
            b'event: response.thought\ndata: {"type":"response.thought",'
            b'"sequence_number":1,"x":[1]}\n\n'
            b'event: response.completed\ndata: {"type":'
            b'"response.completed","sequence_number":2,"response":'
            b'{"id":"r","status":"completed","output":[]}}\n\n')
    stub.fault("raw", text=raw_answer(body))
    response, data = answered(daemon, RESPONSES)
    assert (response.status, data) == (200, body)


@each_dialect
def test_connection_is_usable_after_every_kind_of_end(daemon, stub, dialect):
    """One client connection through failures and successes in turn."""
    with daemon.client() as client:
        for kind, opts in (("status", {"code": 400}), ("drop_start", {}),
                           ("status", {"code": 500}), ("eof", {}),
                           ("close", {}), ("body", {"body": "{}"})):
            stub.fault(kind, **opts)
            answer = client.post(dialect.path(), dialect.body("hi"),
                                 auth=dialect.auth)
            assert answer.status in (200, 400, 502), (kind, answer)
            stub.faults = []
            for stream in (False, True):
                response = client.open(
                    "POST", dialect.path(stream),
                    dialect.body("hi", stream=stream), auth=dialect.auth)
                assert response.status == 200
                assert response.read()


def test_ping_only_stream_is_held_and_given_up(make_daemon, stub):
    """Pings of a provider are no content; its silence has an end."""
    daemon = make_daemon(merged(pool(stub, "claude", count=1), {
        "keepalive-interval": "0s", "max-attempts": 1,
        "limits": {"stream-idle-timeout": "60s"}}))
    stub.fault("ping_slow", after=0, secs=1, every=0.05)
    status, frames = daemon.stream(CLAUDE, "hi")
    assert status == 200 and CLAUDE.complete(frames)
    pings = [frame for frame in frames if frame.startswith("event: ping")]
    assert len(pings) > 5
    assert frame_data(frames[0])["type"] == "message_start"
