# SPDX-License-Identifier: MIT
"""Fixtures come from the shared harness."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))

from harness import (daemon, make_daemon,  # noqa: F401
                     pytest_runtest_setup, shared_daemon, stub, stub_server,
                     watchdog)


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "limit(seconds): a test that may take longer than most")
