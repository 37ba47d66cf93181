# SPDX-License-Identifier: MIT
"""The real clients, each with a home of its own, and fairlead in front of the
stub.  scripts/test installs them, pinned, where npm can be had."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))

import pytest

from harness import (make_daemon, merged, pool,  # noqa: F401
                     pytest_runtest_setup, stub, stub_server, watchdog)
from programs import Gateway, why_absent


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "limit(seconds): a test that may take longer than most")


def pytest_collection_modifyitems(items):
    absent = why_absent()
    for item in items:
        item.add_marker(pytest.mark.limit(120))
        if absent:
            item.add_marker(pytest.mark.skip(reason=absent))


@pytest.fixture
def gateway(make_daemon, stub, tmp_path):  # noqa: F811
    """Three accounts of each provider, sessions bound; see Gateway."""
    def make(*providers: str, models: tuple[str, ...]) -> Gateway:
        access = tmp_path / "fl0" / "access.log"
        rows = [{"name": name, "alias": name} for name in models]
        return Gateway(make_daemon(merged(
            pool(stub, *providers, count=3, models=rows), {
                "routing": {"session-affinity": True},
                "log": {"access-file": str(access)}})), access)

    return make
