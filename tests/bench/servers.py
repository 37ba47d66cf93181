# SPDX-License-Identifier: MIT
"""The stub provider and the proxies before it, each in its own directory."""

import contextlib
import json
import os
import re
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import proc
from proc import BenchError

CLIENT_KEY = "bench-client-key"

NGINX_CONF = """\
daemon off;
worker_processes {workers};
worker_rlimit_nofile {files};
pid {home}/nginx.pid;
error_log {home}/error.log warn;
{user}
events {{
    worker_connections {connections};
}}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_timeout 75s;
    keepalive_requests 1000000000;
    client_max_body_size 64m;
    client_body_buffer_size 2m;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_read_timeout 300s;
    proxy_ssl_protocols TLSv1.2 TLSv1.3;
{temp_paths}
    upstream plain {{
        server 127.0.0.1:{stub.port};
        keepalive 512;
        keepalive_requests 1000000000;
    }}
    upstream tls {{
        server 127.0.0.1:{stub.tls_port};
        keepalive 512;
        keepalive_requests 1000000000;
    }}
{servers}
}}
"""

NGINX_SERVER = """\
    server {{
        listen 127.0.0.1:{port} reuseport;
        location / {{
            proxy_pass {upstream};
            proxy_buffering {buffering};
        }}
    }}
"""

FAIRLEAD_CONF = """\
listen = [ "127.0.0.1:{port}" ];
admin-listen = "";
workers = {workers};
state-dir = "{home}/state";
runtime-dir = "{home}/run";
auth-dir = "{home}/auths";
api-keys = [ "{key}" ];
log = {{ level = "warn"; }};
routing = {{ session-affinity = true; }};
{more}
openai-compatibility = (
{providers}
);
"""

FAIRLEAD_PROVIDER = """\
  {{ name = "{name}";
    base-url = "{base}/v1";
    models = ( {{ name = "{model}"; alias = "{model}"; }} );
    api-key-entries = (
{entries}
    );
  }}"""


@dataclass(frozen=True)
class Target:
    """Where requests go, the model they name, their sessions."""
    port: int
    model: str = "bench"
    sessions: int = 500


@dataclass(frozen=True)
class Setup:
    """How the proxies of a figure run."""
    workers: int = 1
    pinned: bool = True
    credentials: int = 10
    sessions: int = 500
    limited: int = 0  # of a hundred answers so many are a 429
    files: int = 0  # credential files in auth-dir
    more: str = ""  # lines of fairlead.conf


def free_ports(count):
    """All are held until the last is found, so that no two are the same."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in socks]


def accepts(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


class Stub:
    """The upstream of everybody, and of `direct` the server."""
    name = "direct"

    def __init__(self, tools, home, cpus):
        self.cert = make_certificate(home)
        self.process = proc.start(
            [tools / "bench-stub", "-c", self.cert, "-k", home / "key.pem"],
            cpus, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ports = json.loads(self.process.stdout.readline())
        self.port, self.tls_port = ports["port"], ports["tls_port"]

    def target(self, tls=False, stream=False):
        del stream
        if tls:
            raise BenchError("the load generator speaks no TLS")
        return Target(self.port)

    def stats(self):
        url = f"http://127.0.0.1:{self.port}/stats"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)

    def close(self):
        proc.end(self.process)


def make_certificate(home):
    cert = home / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", "-newkey", "ec",
         "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", home / "key.pem", "-out", cert],
        check=True, capture_output=True)
    return cert


class Proxy:
    """A running proxy; subclasses write its configuration and its command."""
    name = ""

    def __init__(self, home, setup, cpus, stub):
        self.home, self.setup, self.stub = home, setup, stub
        home.mkdir(parents=True)
        self.ports, self.pids = [], []
        argv, env = self.prepare()
        self.begun = time.monotonic()
        with open(home / "stderr", "wb") as log:
            self.process = proc.start(argv, cpus, env, stderr=log,
                                      stdin=subprocess.DEVNULL)
        try:
            proc.wait_until(self._is_up, f"{self.name} to start", 20)
        except BenchError as error:
            self.close()
            raise BenchError(f"{error}\n{self.said()}") from error

    def prepare(self):
        raise NotImplementedError

    def _is_up(self):
        if self.process.poll() is not None:
            raise BenchError(f"{self.name} ended with status "
                             f"{self.process.returncode}")
        self.pids = proc.tree(self.process.pid)
        return (len(self.pids) > self.setup.workers
                and all(map(accepts, self.ports)))

    def said(self):
        """The end of what it wrote to its log."""
        return (self.home / "stderr").read_text(errors="replace")[-2000:]

    def workers(self):
        return self.pids[1:]

    def check(self):
        """A worker that died took its schedstat with it."""
        if proc.tree(self.process.pid) != self.pids:
            raise BenchError(f"processes of {self.name} came or went\n"
                             f"{self.said()}")

    def close(self):
        proc.end(self.process)


class Nginx(Proxy):
    """Each upstream, with buffering and without, on a port of its own."""
    name = "nginx"

    def prepare(self):
        kinds = [(tls, stream) for tls in (False, True)
                 for stream in (False, True)]
        self.ports = free_ports(len(kinds))
        self.port_of = dict(zip(kinds, self.ports))
        conf = self.home / "nginx.conf"
        conf.write_text(self.configuration())
        return ["nginx", "-p", self.home, "-e", self.home / "stderr",
                "-c", conf], None

    def configuration(self):
        servers = "".join(
            NGINX_SERVER.format(
                port=port, upstream="https://tls" if tls else "http://plain",
                buffering="off" if stream else "on")
            for (tls, stream), port in self.port_of.items())
        temp_paths = "\n".join(
            f"    {name}_temp_path {self.home}/{name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        files = os.sysconf("SC_OPEN_MAX")
        return NGINX_CONF.format(
            workers=self.setup.workers, home=self.home, stub=self.stub,
            files=files, connections=min(files, 16384), servers=servers,
            temp_paths=temp_paths,
            user="user root;" if os.geteuid() == 0 else "")

    def target(self, tls=False, stream=False):
        return Target(self.port_of[tls, stream])


class Fairlead(Proxy):
    """One port; the model says which upstream. Affinity and keys are on."""
    name = "fairlead"
    program = Path()

    def prepare(self):
        self.ports = free_ports(1)
        for part in ("state", "run", "auths"):
            (self.home / part).mkdir()
        for number in range(self.setup.files):
            self.write_credential(number)
        conf = self.home / "fairlead.conf"
        conf.write_text(self.configuration())
        return ([self.program, "-f", "-c", conf],
                {"SSL_CERT_FILE": str(self.stub.cert)})

    def configuration(self):
        providers = ",\n".join((
            self.provider("plain", "bench",
                          f"http://127.0.0.1:{self.stub.port}"),
            self.provider("tls", "bench-tls",
                          f"https://127.0.0.1:{self.stub.tls_port}")))
        return FAIRLEAD_CONF.format(
            port=self.ports[0], workers=self.setup.workers, home=self.home,
            key=CLIENT_KEY, providers=providers, more=self.setup.more)

    def write_credential(self, number, priority=0):
        """One of its credential files, in place of the one that is there."""
        path = self.home / "auths" / f"account-{number:05}.json"
        fresh = path.with_suffix(".new")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            json.dump({"type": "claude", "access_token": f"token-{number}",
                       "priority": priority}, file)
        fresh.rename(path)

    def serves(self):
        """A connection is accepted before anybody answers on it."""
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(
                    f"http://127.0.0.1:{self.ports[0]}/healthz", timeout=1):
                return True
        return False

    def ask(self, *argv):
        """What fairleadctl says."""
        said = subprocess.run(
            [self.program.parent / "fairleadctl", "-j", "-s",
             self.home / "run" / "control.sock", *argv],
            capture_output=True, text=True, timeout=30)
        return json.loads(said.stdout)

    def provider(self, name, model, base):
        entries = ",\n".join(f'      {{ api-key = "sk-{name}-{i:05}"; }}'
                             for i in range(self.setup.credentials))
        return FAIRLEAD_PROVIDER.format(name=name, base=base, model=model,
                                        entries=entries)

    def target(self, tls=False, stream=False):
        del stream
        return Target(self.ports[0], "bench-tls" if tls else "bench",
                      self.setup.sessions)


def nginx_version():
    said = subprocess.run(["nginx", "-v"], capture_output=True, text=True)
    return re.search(r"nginx/\S+", said.stderr).group()
