# SPDX-License-Identifier: MIT
"""scripts/import-config: what it writes is a configuration that fairlead
takes, means the same, and what it leaves out is told with its line."""

import subprocess
import sys

import pytest

from harness import ROOT, Daemon

FULL = """\
host: "127.0.0.1"
port: 9317
auth-dir: "AUTHS"
api-keys: ["canary-one", 'with "quotes" and \\']
debug: true
proxy-url: socks5://user:canary@127.0.0.1:1080
max-retry-interval: 30
transient-error-cooldown-seconds: -1
routing:
  strategy: WRR
  claude-code-session-affinity: true
  session-affinity: false
  session-affinity-ttl: "1.5h30m"
streaming: {keepalive-seconds: 20, bootstrap-retries: 1}
remote-management: {allow-remote: false}
gemini-api-key:
  - api-key: canary-g
    prefix: team
    headers: {X-Team: ship, "X:odd": ""}
    models: [{name: gemini-2.5-flash, alias: flash, display-name: Flash}]
    excluded-models: ["*-preview"]
codex-api-key:
  - api-key: canary-c
    base-url: https://api.example.com/v1
    weight: 5
    request-scoped-errors: [{status: 400, match: policy, action: continue}]
openai-compatibility:
  - name: example
    base-url: https://example.com/v1
    api-key-entries: [{api-key: canary-o1, proxy-url: direct}]
    api-keys: [canary-o2]
    models: [{name: kimi-k2}]
  - name: useless
generative-language-api-key: [canary-old]
oauth-model-alias:
  claude: [{name: claude-a, alias: a, fork: true}]
  antigravity: [{name: x, alias: y}]
oauth-excluded-models: {Codex: ["gpt-*"]}
"""

WRITTEN = (
    'listen = ( "127.0.0.1:9317" );',
    r'api-keys = ( "canary-one", "with \"quotes\" and \\" );',
    'max-retry-interval = "30s";',
    'request-retry = 0;',
    'transient-error-cooldown = "0s";',
    'keepalive-interval = "20s";',
    'level = "debug";',
    'strategy = "weighted-round-robin";',
    'session-affinity = true;',
    'session-affinity-ttl = "7200s";',
    'headers = ( "X-Team: ship" );',
    'excluded-models = ( "*-preview" );',
    'weight = 5;',
    'match = ( "policy" );',
    'api-key = "canary-o2";',
    'api-key = "canary-old";',
    'fork = true;',
    'codex = ( "gpt-*" );',
)

TOLD = (
    (1, 'no "request-retry"'),
    (14, '"streaming.bootstrap-retries" has no counterpart'),
    (15, '"remote-management" has no counterpart'),
    (20, '"gemini-api-key[0].models[0].display-name" has no counterpart'),
    (33, '"openai-compatibility[1]" has no base-url'),
    (37, '"oauth-model-alias.antigravity" has no counterpart'),
)


def convert(path):
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "import-config", path],
        capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def converted(tmp_path):
    (tmp_path / "auths").mkdir()
    path = tmp_path / "config.yaml"
    path.write_text(FULL.replace("AUTHS", str(tmp_path / "auths")),
                    encoding="utf-8")
    done = convert(path)
    assert done.returncode == 0, done.stderr
    return done


def test_what_it_writes_is_a_configuration(converted, tmp_path):
    path = tmp_path / "imported.conf"
    path.write_text(converted.stdout, encoding="utf-8")
    done = Daemon(tmp_path, {}).run("-t", "-c", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("line", WRITTEN)
def test_value_is_carried_over(converted, line):
    assert line in converted.stdout


@pytest.mark.parametrize("line,text", TOLD)
def test_what_is_left_out_is_told_with_its_line(converted, line, text):
    assert any(f"config.yaml:{line}: {text}" in told
               for told in converted.stderr.splitlines()), converted.stderr


BROKEN = (
    ("routing: {session-affinity-ttl: soon}", '"routing.session-affinity-ttl"'),
    ("request-retry: many", '"request-retry" is not a whole number'),
    ("claude-api-key: {api-key: x}", '"claude-api-key" is not a list'),
    ("claude-api-key: [{headers: [x]}]", '"claude-api-key[0].headers"'),
    ("routing: 5", '"routing" is not a mapping'),
)


@pytest.mark.parametrize("text,told", BROKEN)
def test_value_that_means_nothing_is_told(tmp_path, text, told):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    done = convert(path)
    assert done.returncode == 0
    assert told in done.stderr


@pytest.mark.parametrize("text", ("[1, 2]", "a: [", "\x00"))
def test_what_is_no_configuration_is_refused(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    done = convert(path)
    assert done.returncode == 1
    assert "import-config: " in done.stderr and not done.stdout
    assert "Traceback" not in done.stderr


def test_no_host_means_every_address(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("port: 1", encoding="utf-8")
    done = convert(path)
    assert 'listen = ( "0.0.0.0:1" );' in done.stdout
    assert '"host"' in done.stderr
