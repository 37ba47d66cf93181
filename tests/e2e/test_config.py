# SPDX-License-Identifier: MIT
"""-t and -T: every error with its file and line, every default filled in,
no secret shown."""

import re

import pytest

from harness import (BUILD, CANARY, CLIENT_KEY, MODELS, Daemon, libconfig,
                     pool)

BASE = (f'api-keys = [ "{CLIENT_KEY}" ];\n'
        f'models-file = "{MODELS}";\nadmin-listen = "";\n')


@pytest.fixture
def trial(tmp_path):
    """Run -t or -T over a text; (exit status, everything it printed)."""
    daemon = Daemon(tmp_path, {})
    path = tmp_path / "trial.conf"

    def run(text: str, flag: str = "-t") -> tuple[int, str]:
        path.write_text(text, encoding="utf-8")
        done = daemon.run(flag, "-c", str(path))
        return done.returncode, done.stdout + done.stderr

    run.path = path
    run.daemon = daemon
    yield run
    found = daemon.complaints()
    assert not found, "\n".join(found)


def dirs(tmp_path) -> str:
    return "".join(f'{name} = "{tmp_path / name}";\n' for name in
                   ("state-dir", "runtime-dir", "auth-dir"))


def test_good_file(trial, tmp_path):
    code, text = trial(BASE)
    assert code == 0
    assert f"configuration {trial.path} is ok" in text


BROKEN = (
    ("syntax", 'listen = ;\n'),
    ("unknown-key", 'no-such-key = 1;\n'),
    ("unknown-in-group", 'limits = { bodies = "1M"; };\n'),
    ("unknown-in-entry", 'claude-api-key = ( { api-keyy = "x"; } );\n'),
    ("wrong-type-string", 'workers = "two";\n'),
    ("wrong-type-bool", 'allow-anonymous = 1;\n'),
    ("wrong-type-list", 'listen = "127.0.0.1:1";\n'),
    ("wrong-type-in-list", 'listen = ( 5 );\n'),
    ("wrong-type-group", 'limits = 5;\n'),
    ("wrong-type-entry", 'claude-api-key = ( "x" );\n'),
    ("range-low", 'workers = -1;\n'),
    ("range-high", 'workers = 65;\n'),
    ("range-duration", 'routing = { session-affinity-ttl = "999999h"; };\n'),
    ("range-size", 'limits = { header = "1"; };\n'),
    ("duration-text", 'keepalive-interval = "soon";\n'),
    ("duration-unit", 'keepalive-interval = "5x";\n'),
    ("duration-minus", 'keepalive-interval = "-5s";\n'),
    ("duration-empty", 'keepalive-interval = "";\n'),
    ("duration-float", 'keepalive-interval = 1.5;\n'),
    ("size-text", 'limits = { body = "big"; };\n'),
    ("size-unit", 'limits = { body = "5Q"; };\n'),
    ("int64-wrap", 'workers = 99999999999999999999;\n'),
    ("strategy", 'routing = { strategy = "random"; };\n'),
    ("level", 'log = { level = "loud"; };\n'),
    ("address", 'listen = [ "nowhere" ];\n'),
    ("address-port", 'listen = [ "127.0.0.1:99999" ];\n'),
    ("no-listener", 'listen = [ ];\n'),
    ("admin-open", 'admin-listen = "0.0.0.0:8318";\n'),
    ("prefix", 'claude-api-key = ( { api-key = "x"; prefix = "a/b"; } );\n'),
    ("weight", 'claude-api-key = ( { api-key = "x"; weight = 2000000; } );'
     '\n'),
    ("base-url", 'claude-api-key = ( { api-key = "x"; base-url = '
     '"ftp://x"; } );\n'),
    ("codex-without-base", 'codex-api-key = ( { api-key = "x"; } );\n'),
    ("compat-without-base", 'openai-compatibility = ( { name = "x"; } );\n'),
    ("model-without-name", 'claude-api-key = ( { api-key = "x"; models = '
     '( { alias = "y"; } ); } );\n'),
    ("bad-regex", 'request-scoped-errors = ( { status = 400; match-regex = '
     '[ "(" ]; } );\n'),
    ("bad-action", 'request-scoped-errors = ( { status = 400; action = '
     '"wait"; } );\n'),
    ("header-name", 'claude-api-key = ( { api-key = "x"; headers = '
     '{ X-A = 5; }; } );\n'),
    ("header-injection", 'claude-api-key = ( { api-key = "x"; headers = '
     '{ X-A = "a\\r\\nX-B: c"; }; } );\n'),
    ("token-endpoint", 'oauth = { claude = { token-endpoint = '
     '"http://example.test/token"; }; };\n'),
    ("oauth-provider", 'oauth = { qwen = { client-id = "x"; }; };\n'),
    ("relative-dir", 'state-dir = "state";\n'),
    ("models-file", 'models-file = "/no/such/file.json";\n'),
    ("proxy", 'proxy-url = "bad-value";\n'),
)


@pytest.mark.parametrize("name, text", BROKEN, ids=[n for n, _ in BROKEN])
def test_broken_settings_are_named_with_their_line(trial, name, text):
    base = "".join(row + "\n" for row in BASE.splitlines()
                   if row.split(" ")[0] != text.split(" ")[0])
    code, out = trial(base + "\n\n" + text)
    line = base.count("\n") + 3
    assert code == 1, out
    assert f"{trial.path}:{line}: " in out
    assert "is ok" not in out


def test_libconfig_wraps_integers_and_we_do_not_accept_them(trial):
    """Large values are strings; a bare one beyond 32 bits is no surprise."""
    code, out = trial(BASE + 'limits = { bodies-total = "8G"; };\n', "-T")
    assert code == 0, out
    assert re.search(r'bodies-total = "8G"', out), out


def test_every_error_is_printed_not_only_the_first(trial):
    code, out = trial('workers = -1;\nnonsense = 5;\n\n'
                      'keepalive-interval = "x";\n'
                      'claude-api-key = ( { weight = "y"; } );\n' + BASE)
    assert code == 1
    for line in (1, 2, 4, 5):
        assert f"{trial.path}:{line}: " in out, (line, out)


def test_file_that_is_not_there(trial):
    done = trial.daemon.run("-t", "-c", "/no/such/fairlead.conf")
    assert done.returncode == 1
    assert "/no/such/fairlead.conf" in done.stdout + done.stderr


def test_directory_instead_of_a_file(trial, tmp_path):
    done = trial.daemon.run("-t", "-c", str(tmp_path))
    assert done.returncode == 1


@pytest.mark.parametrize("keys, listen, anonymous, good", (
    ("[ ]", "127.0.0.1:1", False, False),
    ("[ ]", "127.0.0.1:1", True, True),
    ("[ ]", "[::1]:1", True, True),
    ("[ ]", "unix:/tmp/x.sock", True, True),
    ("[ ]", "0.0.0.0:1", True, False),
    ("[ ]", "0.0.0.0:1", False, False),
    ('[ "canary-k" ]', "0.0.0.0:1", False, True)))
def test_who_may_run_without_client_keys(trial, keys, listen, anonymous,
                                         good):
    code, out = trial(f'api-keys = {keys};\nlisten = [ "{listen}" ];\n'
                      f'models-file = "{MODELS}";\n'
                      f'allow-anonymous = {str(anonymous).lower()};\n')
    assert (code == 0) == good, out


@pytest.mark.parametrize("given, shown", (
    ('"1h"', "1h"), ('"1h30m"', "1h30m"), ('"90s"', "1m30s|90s"),
    ('"1500ms"', "1500ms|1s500ms"), ("45", "45s"), ('"0s"', "0s|0"),
    ('"2m"', "2m")))
def test_durations(trial, given, shown):
    code, out = trial(BASE + f"keepalive-interval = {given};\n", "-T")
    assert code == 0, out
    assert re.search(rf'keepalive-interval = "?({shown})"?;', out), out


@pytest.mark.parametrize("brackets", ("[]", "()"))
def test_lists_in_either_bracket(trial, brackets):
    left, right = brackets
    code, out = trial(BASE + f'listen = {left} "127.0.0.1:1", "[::1]:2" '
                      f"{right};\n", "-T")
    assert code == 0, out
    assert "127.0.0.1:1" in out and "[::1]:2" in out


ALL_KEYS = {
    "workers": 3, "user": "", "group": "", "discover-models": False,
    "allow-anonymous": False, "admin-key": "canary-admin",
    "log": {"level": "warn", "file": "", "access-file": "",
            "usage-file": ""},
    "limits": {"body": "1M", "bodies-total": "2G", "header": "32K",
               "connections": 500, "header-timeout": "5s",
               "body-timeout": "20s", "idle-timeout": "30s",
               "upstream-connect-timeout": "3s", "first-byte-timeout": "99s",
               "stream-idle-timeout": "98s", "drain-timeout": "5m"},
    "proxy-url": "socks5h://user:canary-proxy@127.0.0.1:1",
    "request-retry": 1, "max-retry-credentials": 2,
    "max-retry-interval": "5s", "max-attempts": 4, "disable-cooling": False,
    "transient-error-cooldown": "30s", "cooldown-max": "1h",
    "request-scoped-errors": [{"status": 400, "match": ["quota"],
                               "match-regex": ["^x+$"],
                               "action": "continue"}],
    "oauth-request-scoped-errors": {"claude": [{
        "status": 403, "match": ["x"], "action": "stop-and-cooldown"}]},
    "force-model-prefix": False, "passthrough-headers": False,
    "auth-auto-refresh-workers": 4, "keepalive-interval": "10s",
    "routing": {"strategy": "fill-first", "session-affinity": True,
                "session-affinity-ttl": "2h", "session-affinity-wait": "1s",
                "claude-code-session-affinity": False, "max-sessions": 1000,
                "hard-pins": False},
    "claude-api-key": [{
        "api-key": "canary-1", "base-url": "https://a.test",
        "proxy-url": "http://user:canary-proxy@127.0.0.1:1", "priority": 5,
        "weight": 3, "prefix": "p", "headers": {"X-A": "canary-header"},
        "models": [{"name": "m", "alias": "a"}],
        "excluded-models": ["x*"], "disable-cooling": True,
        "request-retry": 2}],
    "codex-api-key": [{"api-key": "canary-2", "base-url": "https://b.test"}],
    "gemini-api-key": [{"api-key": "canary-3"}],
    "vertex-api-key": [{"api-key": "canary-4",
                        "base-url": "https://c.test"}],
    "openai-compatibility": [{
        "name": "n", "base-url": "https://d.test/v1", "priority": 1,
        "prefix": "q", "headers": {"X-B": "canary-header"},
        "api-key-entries": [{"api-key": "canary-5", "proxy-url": "direct",
                             "weight": 2}],
        "models": [{"name": "m"}], "responses": True}],
    "oauth": {"claude": {"token-endpoint": "http://127.0.0.1:1/token",
                         "client-id": "id",
                         "client-secret": "canary-oauth", "lead": "5m",
                         "encoding": "json"}},
    "oauth-model-alias": {"claude": [{"name": "a", "alias": "b",
                                      "fork": True}]},
    "oauth-excluded-models": {"claude": ["*-x"]},
}


def whole_file() -> str:
    return BASE + "".join(f"{key} = {libconfig(value)};\n"
                          for key, value in ALL_KEYS.items())


def test_every_key_is_accepted(trial):
    code, out = trial(whole_file())
    assert code == 0, out


def test_dump_shows_everything_but_secrets(trial):
    code, out = trial(whole_file(), "-T")
    assert code == 0, out
    assert CANARY not in out
    assert '"***"' in out
    for key in list(ALL_KEYS) + ["listen", "state-dir", "auth-dir"]:
        assert re.search(rf"^\s*{key}\s*=", out, re.M), key
    for group in ("log", "limits", "routing"):
        for key in ALL_KEYS[group]:
            assert re.search(rf"^\s*{key}\s*=", out, re.M), key


def test_dump_fills_in_the_defaults(trial):
    code, out = trial(BASE, "-T")
    assert code == 0, out
    for key, value in (("strategy", '"round-robin"'),
                       ("session-affinity-ttl", '"1h"'),
                       ("session-affinity", "false"),
                       ("max-attempts", "8"), ("request-retry", "3"),
                       ("first-byte-timeout", r'"(300s|5m)"'),
                       ("keepalive-interval", '"15s"')):
        assert re.search(rf"^\s*{key}\s*=\s*{value};", out, re.M), key


def test_dump_is_a_configuration_again(trial):
    """But for the secrets, what -T prints can be read back."""
    text = re.sub(r'"[^"]*canary-proxy[^"]*"', '""', whole_file())
    text += f'auth-dir = "{trial.path.parent}";\n'
    _, out = trial(text, "-T")
    text = "\n".join(row for row in out[out.index("listen ="):].splitlines()
                     if "is ok" not in row)
    code, again = trial(text, "-T")
    assert code == 0, again

    def rows(dump: str) -> list[str]:
        return [row for row in dump.splitlines() if " = " in row]

    assert rows(again) == rows(out)


def test_warnings_do_not_fail(trial):
    code, out = trial(BASE + "routing = { claude-code-session-affinity = "
                      "true; };\n")
    assert code == 0
    assert "claude-code-session-affinity" in out


@pytest.mark.parametrize("value", ("http://127.0.0.1/t", "http://[::1]/t",
                                   "http://localhost:1/t",
                                   "https://example.test/t"))
def test_plain_token_endpoints_on_loopback_only(trial, value):
    code, out = trial(BASE + 'oauth = { claude = { token-endpoint = '
                      f'"{value}"; }}; }};\n')
    assert code == 0, out


def test_header_names_that_no_key_can_hold(trial):
    code, out = trial(
        BASE + 'claude-api-key = ( { api-key = "canary-x"; headers = '
        '( "x_1.a: b", "X-B: c: d" ); } );\n')
    assert code == 0, out


def test_include(trial, tmp_path):
    (tmp_path / "more.conf").write_text("workers = 3;\n")
    code, out = trial(BASE + '@include "more.conf"\n', "-T")
    assert code == 0, out
    assert re.search(r"workers\s*=\s*3;", out)
    (tmp_path / "more.conf").write_text("\n\nworkers = -3;\n")
    code, out = trial(BASE + '@include "more.conf"\n')
    assert code == 1
    assert "more.conf:3: " in out
    (tmp_path / "more.conf").write_text("workers = 4;\n")
    code, out = trial(BASE + f'@include "{tmp_path}/more.conf"\n', "-T")
    assert code == 0, out
    assert re.search(r"workers\s*=\s*4;", out)


def test_group_without_user_is_told(trial):
    code, out = trial(BASE + 'group = "daemon";\n')
    assert code == 0, out
    assert 'no effect without "user"' in out


def test_versions_help_and_bad_flags(trial):
    done = trial.daemon.run("-V")
    assert done.returncode == 0
    for name in ("fairlead", "libevent", "LMDB", "libconfig"):
        assert name.lower() in (done.stdout + done.stderr).lower(), name
    done = trial.daemon.run("-h")
    assert done.returncode == 0 and "usage:" in done.stdout + done.stderr
    assert trial.daemon.run("-Q").returncode not in (0, -6, -11)
    assert trial.daemon.run("surplus").returncode not in (0, -6, -11)


def test_testing_leaves_a_running_daemon_alone(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude"))
    workers = sorted(daemon.worker_pids())
    done = daemon.run("-t", "-c", str(daemon.config_file))
    assert done.returncode == 0
    assert sorted(daemon.worker_pids()) == workers
    assert daemon.get("/healthz").status == 200


def test_shipped_example_is_accepted(trial):
    example = BUILD / "etc" / "fairlead.conf"
    if not example.exists():
        pytest.skip("no example in this build")
    code, out = trial(example.read_text(encoding="utf-8"))
    assert code == 0, out


def test_shipped_example_with_everything_uncommented(trial):
    """What is commented out is right too."""
    example = BUILD / "etc" / "fairlead.conf"
    if not example.exists():
        pytest.skip("no example in this build")
    text = re.sub(r"^#(?=[^ #-])", "", example.read_text(encoding="utf-8"),
                  flags=re.M)
    text = re.sub(r"^#(?=  )", "", text, flags=re.M)
    for key, path in (("models-file", MODELS),
                      ("auth-dir", trial.path.parent)):
        text = re.sub(rf'{key} = "[^"]*"', f'{key} = "{path}"', text)
    code, out = trial(text)
    assert code == 0, out
