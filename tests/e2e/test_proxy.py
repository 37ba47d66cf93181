# SPDX-License-Identifier: MIT
"""Proxies: global, per key, per file; and that nothing goes around them."""

import json

import pytest

from harness import (CANARY, CLAUDE, OPENAI, as_json, free_port, merged,
                     pool, wait_for)
from stub import Stub


@pytest.fixture
def guarded(stub_server, tmp_path):
    """Proxies that want a user and password, in a stub of their own."""
    other = Stub([], proxy_user="user:canary-pass",
                 tls_dir=str(tmp_path)).start()
    yield other
    other.stop()


def proxies(stub) -> dict[str, str]:
    return {"http": f"http://127.0.0.1:{stub.proxy_port}",
            "socks5": f"socks5://127.0.0.1:{stub.socks_port}",
            "socks5h": f"socks5h://127.0.0.1:{stub.socks_port}"}


def use_tls(daemon, stub) -> None:
    daemon.env["SSL_CERT_FILE"] = stub.certificates["ca"]


@pytest.mark.parametrize("kind", ("http", "socks5", "socks5h"))
@pytest.mark.parametrize("tls", (False, True), ids=("plain", "tls"))
@pytest.mark.parametrize("where", ("global", "key", "file"))
def test_proxy_is_used(make_daemon, stub, kind, tls, where):
    proxy = proxies(stub)[kind]
    url = stub.tls_url if tls else stub.url
    config = pool(stub, "claude", count=1, url=url)
    if where == "global":
        config["proxy-url"] = proxy
    elif where == "key":
        config["claude-api-key"][0]["proxy-url"] = proxy
    else:
        config = {}
    daemon = make_daemon(config, start=False)
    use_tls(daemon, stub)
    model = "claude-stub"
    if where == "file":
        model = "claude-sonnet-4-6"
        daemon.auth_file("a.json", {
            "type": "claude", "access_token": CANARY + "file1",
            "base_url": url, "proxy_url": proxy})
    daemon.start()
    answer = daemon.ask(CLAUDE, "hi", model=model)
    assert answer.status == 200, answer
    (use,) = stub.proxy_uses
    assert use["port"] == (stub.tls_port if tls else stub.port)
    if kind != "http" and tls:  # names are the proxy's to resolve
        assert use["form"] == "name" and use["host"] == "localhost"
    if kind == "http" and tls:
        assert use["kind"] == "connect"


def test_socks5h_leaves_names_to_the_proxy(make_daemon, stub):
    """A name that only the proxy can resolve."""
    daemon = make_daemon(pool(
        stub, "claude", count=1,
        url=f"http://provider.test:{stub.port}",
        **{"proxy-url": proxies(stub)["socks5h"]}))
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert stub.proxy_uses[0]["host"] == "provider.test"


def test_https_proxy(make_daemon, stub):
    daemon = make_daemon(pool(
        stub, "claude", count=1, url=stub.tls_url,
        **{"proxy-url": f"https://localhost:{stub.tls_proxy_port}"}),
        start=False)
    use_tls(daemon, stub)
    daemon.start()
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert stub.proxy_uses[0]["kind"] == "connect"


@pytest.mark.parametrize("kind", ("http", "socks5h"))
def test_proxy_with_user_and_password(make_daemon, stub, guarded, kind):
    port = guarded.proxy_port if kind == "http" else guarded.socks_port
    config = pool(stub, "claude", count=1, **{
        "proxy-url": f"{kind}://user:canary-pass@127.0.0.1:{port}"})
    daemon = make_daemon(config)
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert guarded.proxy_uses[0]["user"]
    text = json.dumps(stub.log[-1]["headers"]).lower()
    assert "proxy-auth" not in text
    dump = daemon.run("-T", "-c", str(daemon.config_file))
    assert "canary-pass" not in dump.stdout


def test_wrong_proxy_password_fails_closed(make_daemon, stub, guarded):
    config = pool(stub, "claude", count=1, **{
        "proxy-url":
        f"http://user:canary-no@127.0.0.1:{guarded.proxy_port}"})
    daemon = make_daemon(config)
    answer = daemon.ask(CLAUDE, "hi")
    assert answer.status in (502, 503, 407), answer
    assert stub.log == []


def test_proxy_that_refuses_us_is_no_fault_of_the_credentials(
        make_daemon, stub, guarded):
    """Neither of the accounts behind it is out because of a 407."""
    daemon = make_daemon({**pool(stub, "claude"), "max-attempts": 2,
                          "proxy-url":
                          f"http://user:canary-no@127.0.0.1:"
                          f"{guarded.proxy_port}"})
    CLAUDE.check_error(daemon.ask(CLAUDE, "hi"), 502, "upstream_failed")
    assert stub.log == []
    assert {row["state"] for row in daemon.credentials().values()} == {
        "ready"}


@pytest.mark.parametrize("value", ("direct", "none", "DIRECT", " None "))
def test_direct_beats_a_global_proxy(make_daemon, stub, value):
    config = pool(stub, "claude", count=1, **{"proxy-url": value})
    config["proxy-url"] = f"http://127.0.0.1:{free_port()}"
    daemon = make_daemon(config)
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert stub.proxy_uses == []


def test_key_beats_global_and_file_beats_global(make_daemon, stub):
    config = pool(stub, "claude", count=1,
                  **{"proxy-url": proxies(stub)["socks5h"]})
    config["proxy-url"] = proxies(stub)["http"]
    daemon = make_daemon(merged(config, pool(stub, "openai", count=1)))
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert stub.proxy_uses[-1]["kind"] == "socks5"
    assert daemon.ask(OPENAI, "hi").status == 200
    assert stub.proxy_uses[-1]["kind"] in ("forward", "connect")


def test_proxy_of_one_api_key_entry(make_daemon, stub):
    config = pool(stub, "openai", count=2)
    entries = config["openai-compatibility"][0]["api-key-entries"]
    entries[0]["proxy-url"] = proxies(stub)["socks5h"]
    daemon = make_daemon(config)
    for _ in range(4):
        assert daemon.ask(OPENAI, "hi").status == 200
    assert 1 <= len(stub.proxy_uses) <= 2


@pytest.mark.parametrize("value", (
    "ftp://127.0.0.1:1", "bad-value", "http://", "socks4://127.0.0.1:1",
    "://x", "http//127.0.0.1:1"))
def test_invalid_proxy_fails_closed_for_that_credential(make_daemon, stub,
                                                        value):
    """The bad one is not used, not even directly; the others are."""
    config = pool(stub, "claude", count=2)
    config["claude-api-key"][0]["proxy-url"] = value
    daemon = make_daemon(config, start=False)
    done = daemon.run("-t", "-c", str(daemon.config_file))
    if done.returncode == 1:  # said at once, with its line
        assert f"{daemon.config_file}:" in done.stdout + done.stderr
        return
    daemon.start()
    for _ in range(4):
        assert daemon.ask(CLAUDE, "hi").status == 200
        assert stub.log[-1]["account"] == "claude2"


def test_invalid_proxy_of_a_file_fails_closed(make_daemon, stub):
    daemon = make_daemon({}, start=False)
    for n, proxy in ((1, "bad-value"), (2, "")):
        daemon.auth_file(f"c{n}.json", {
            "type": "claude", "access_token": f"{CANARY}file{n}",
            "base_url": stub.url, "proxy_url": proxy})
    daemon.start()
    for _ in range(4):
        assert daemon.ask(CLAUDE, "hi",
                          model="claude-sonnet-4-6").status == 200
        assert stub.log[-1]["account"] == "file2"
    daemon.log_has(r"c1\.json.*proxy|proxy.*c1\.json")


def test_dead_proxy_of_its_own_benches_and_moves(make_daemon, stub):
    config = pool(stub, "claude", count=2)
    config["claude-api-key"][0]["proxy-url"] = (
        f"socks5h://127.0.0.1:{free_port()}")
    config["claude-api-key"][0]["priority"] = 9
    daemon = make_daemon(config)
    for _ in range(3):
        assert daemon.ask(CLAUDE, "hi").status == 200
    assert {entry["account"] for entry in stub.log} == {"claude2"}
    states = sorted(row["state"] for row in daemon.credentials().values())
    assert states == ["blocked", "ready"]


# -- the environment --------------------------------------------------------

ENVIRONMENT = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy",
               "ALL_PROXY", "all_proxy")


def test_environment_never_beats_what_is_configured(make_daemon, stub):
    """Neither its proxies nor its exceptions."""
    dead = f"http://127.0.0.1:{free_port()}"
    config = pool(stub, "claude", count=1,
                  **{"proxy-url": proxies(stub)["http"]})
    daemon = make_daemon(config, start=False)
    daemon.env.update({name: dead for name in ENVIRONMENT})
    daemon.env["NO_PROXY"] = daemon.env["no_proxy"] = "*"
    daemon.start()
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert len(stub.proxy_uses) == 1


def test_direct_is_direct_whatever_the_environment_says(make_daemon, stub):
    dead = f"http://127.0.0.1:{free_port()}"
    daemon = make_daemon({**pool(stub, "claude", count=1),
                          "proxy-url": "direct"}, start=False)
    daemon.env.update({name: dead for name in ENVIRONMENT})
    daemon.start()
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert stub.proxy_uses == []


def test_environment_counts_where_nothing_is_configured(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude", count=1, url=stub.tls_url),
                         start=False)
    use_tls(daemon, stub)
    daemon.env["HTTPS_PROXY"] = proxies(stub)["http"]
    daemon.start()
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert stub.proxy_uses[0]["kind"] == "connect"
    dump = daemon.run("-T", "-c", str(daemon.config_file))
    assert str(stub.proxy_port) in dump.stdout


def test_no_proxy_excepts_a_host_from_the_environment(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude", count=1, url=stub.tls_url),
                         start=False)
    use_tls(daemon, stub)
    daemon.env["HTTPS_PROXY"] = f"http://127.0.0.1:{free_port()}"
    daemon.env["NO_PROXY"] = "localhost"
    daemon.start()
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert stub.proxy_uses == []


# -- TLS --------------------------------------------------------------------

def test_tls_upstream_streams(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude", url=stub.tls_url), start=False)
    use_tls(daemon, stub)
    daemon.start()
    status, frames = daemon.stream(CLAUDE, "hi")
    assert status == 200 and CLAUDE.complete(frames)
    for _ in range(10):
        assert daemon.ask(CLAUDE, "hi").status == 200


def test_untrusted_certificate_is_refused(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude", url=stub.tls_url))
    answer = daemon.ask(CLAUDE, "hi")
    assert answer.status in (502, 503), answer
    assert as_json(answer)["error"]["message"]
    assert stub.log == []


def test_certificate_for_another_name_is_refused(make_daemon, stub):
    url = f"https://wrong.localhost:{stub.tls_port}"
    daemon = make_daemon(pool(stub, "claude", url=url), start=False)
    use_tls(daemon, stub)
    daemon.start()
    assert daemon.ask(CLAUDE, "hi").status in (502, 503)
    assert stub.log == []


def test_client_gone_cancels_through_a_proxy(make_daemon, stub):
    config = pool(stub, "claude", count=1,
                  **{"proxy-url": proxies(stub)["socks5h"]})
    daemon = make_daemon(config)
    stub.fault("silent", secs=20)
    with daemon.client() as client:
        try:
            client.timeout = 0.5
            client.post(CLAUDE.path(), CLAUDE.body("hi"))
        except OSError:
            pass
    wait_for(lambda: stub.log and stub.log[-1]["client_gone"], 3)
