# SPDX-License-Identifier: MIT
"""Which credential serves a request that belongs to no session."""

import collections
import concurrent.futures

import pytest

from harness import (CLAUDE, OPENAI, accounts_used, merged, pool, wait_for)


def spread(stub) -> dict[str, int]:
    return dict(collections.Counter(accounts_used(stub)))


@pytest.mark.parametrize("parallel", (1, 10))
def test_round_robin_is_exact_over_two_workers(make_daemon, stub, parallel):
    daemon = make_daemon(pool(stub, "claude", count=3))
    with concurrent.futures.ThreadPoolExecutor(parallel) as threads:
        answers = list(threads.map(
            lambda n: daemon.ask(CLAUDE, f"hi {n}").status, range(30)))
    assert answers == [200] * 30
    assert spread(stub) == {"claude1": 10, "claude2": 10, "claude3": 10}


def test_round_robin_goes_in_order_of_ids(make_daemon, stub):
    daemon = make_daemon(pool(stub, "openai", count=3))
    for n in range(9):
        daemon.ask(OPENAI, f"hi {n}")
    used = accounts_used(stub)
    assert used[:3] == used[3:6] == used[6:9]
    assert len(set(used[:3])) == 3


def test_each_model_has_its_own_cursor(make_daemon, stub):
    config = pool(stub, "claude", count=2)
    for row in config["claude-api-key"]:
        row["models"] = [{"name": "model-a"}, {"name": "model-b"}]
    daemon = make_daemon(config)
    for n in range(4):
        daemon.ask(CLAUDE, f"hi {n}", model="model-a")
        daemon.ask(CLAUDE, f"hi {n}", model="model-b")
    for model in ("model-a", "model-b"):
        used = [entry["account"] for entry in stub.log
                if entry["model"] == model]
        assert used[0] != used[1] and used[:2] == used[2:]


def test_fill_first_uses_one_until_it_fails(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, "claude", count=3), {
        "routing": {"strategy": "fill-first"}}))
    for n in range(6):
        daemon.ask(CLAUDE, f"hi {n}")
    (first,) = set(accounts_used(stub))
    rows = sorted(daemon.credentials().values(), key=lambda row: row["id"])
    assert [row["succeeded"] for row in rows] == [6, 0, 0]
    stub.fault("status", account=first, code=401, times=-1)
    for n in range(4):
        assert daemon.ask(CLAUDE, f"hi {n}").status == 200
    rest = accounts_used(stub)[6:]
    assert rest[0] == first and len(set(rest[1:])) == 1
    assert rest[1] != first


def test_highest_ready_tier_serves(make_daemon, stub):
    config = pool(stub, "claude", count=3)
    rows = config["claude-api-key"]
    rows[0]["priority"], rows[1]["priority"], rows[2]["priority"] = 1, 10, 10
    daemon = make_daemon(config)
    for n in range(6):
        daemon.ask(CLAUDE, f"hi {n}")
    assert spread(stub) == {"claude2": 3, "claude3": 3}
    for account in ("claude2", "claude3"):
        stub.fault("status", account=account, code=429,
                   headers={"retry-after": "2"})
    del stub.log[:]
    assert daemon.ask(CLAUDE, "down").status == 200
    assert accounts_used(stub)[-1] == "claude1"
    wait_for(lambda: daemon.models()["claude-stub"]["ready"] == 3, 5)
    del stub.log[:]
    assert daemon.ask(CLAUDE, "up again").status == 200
    assert accounts_used(stub)[-1] in ("claude2", "claude3")


def test_negative_priority_is_below_the_default(make_daemon, stub):
    config = pool(stub, "claude", count=2)
    config["claude-api-key"][0]["priority"] = -5
    daemon = make_daemon(config)
    for n in range(4):
        daemon.ask(CLAUDE, f"hi {n}")
    assert spread(stub) == {"claude2": 4}


def test_failed_one_does_not_shift_the_rotation_of_the_rest(make_daemon,
                                                            stub):
    daemon = make_daemon(pool(stub, "claude", count=3))
    stub.fault("status", account="claude2", code=401, times=-1)
    for n in range(20):
        assert daemon.ask(CLAUDE, f"hi {n}").status == 200
    counts = spread(stub)
    assert counts["claude2"] == 1
    assert abs(counts["claude1"] - counts["claude3"]) <= 1


def test_new_credential_is_used_while_the_others_cool(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude", count=2))
    stub.fault("status", code=429, times=2, headers={"retry-after": "600"})
    assert daemon.ask(CLAUDE, "hi").status == 429
    daemon.with_config(**{"claude-api-key": pool(stub, "claude", count=3)[
        "claude-api-key"]})
    daemon.reload()
    assert daemon.ask(CLAUDE, "hi").status == 200
    assert accounts_used(stub)[-1] == "claude3"


def test_cooldown_survives_reload_and_restart(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude", count=2))
    stub.fault("status", account="claude1", code=401, times=-1)
    for _ in range(2):
        assert daemon.ask(CLAUDE, "hi").status == 200
    assert spread(stub)["claude1"] == 1

    def still_benched() -> None:
        del stub.log[:]
        for _ in range(4):
            assert daemon.ask(CLAUDE, "hi").status == 200
        assert spread(stub) == {"claude2": 4}

    daemon.with_config(limits={"header-timeout": "9s"})
    daemon.hup()
    still_benched()
    daemon.restart()
    still_benched()
    daemon.kill9()
    daemon.start()
    still_benched()


def test_round_robin_ignores_weights(make_daemon, stub):
    config = pool(stub, "claude", count=2)
    config["claude-api-key"][0]["weight"] = 5
    daemon = make_daemon(config)
    for n in range(4):
        daemon.ask(CLAUDE, f"hi {n}")
    assert spread(stub) == {"claude1": 2, "claude2": 2}


# -- several providers of one model -----------------------------------------

def two_sections(stub, **more) -> dict:
    """Two sections with one model: three keys and one."""
    config = pool(stub, "openai", count=4)
    first = config["openai-compatibility"][0]
    keys = first["api-key-entries"]
    return {**config, "openai-compatibility": [
        {**first, "name": "one", "api-key-entries": keys[3:]},
        {**first, "name": "three", "api-key-entries": keys[:3]}], **more}


@pytest.mark.parametrize("parallel", (1, 8))
def test_providers_share_by_their_ready_members(make_daemon, stub, parallel):
    daemon = make_daemon(two_sections(stub))
    with concurrent.futures.ThreadPoolExecutor(parallel) as threads:
        answers = list(threads.map(
            lambda n: daemon.ask(OPENAI, f"hi {n}").status, range(24)))
    assert answers == [200] * 24
    assert spread(stub) == {f"openai{n}": 6 for n in range(1, 5)}
    if parallel == 1:
        # The section with most keys has its places in a row, then the other.
        at = accounts_used(stub).index("openai4")
        assert at == 3
        assert accounts_used(stub)[at::4] == ["openai4"] * 6


def test_fill_first_stays_with_the_larger_provider(make_daemon, stub):
    daemon = make_daemon(two_sections(stub, routing={
        "strategy": "fill-first"}))
    for n in range(3):
        assert daemon.ask(OPENAI, f"hi {n}").status == 200
    assert set(accounts_used(stub)) < {"openai1", "openai2", "openai3"}
    assert len(spread(stub)) == 1


# -- weights ----------------------------------------------------------------

def test_weights_are_exact_over_two_workers_and_count_at_once(make_daemon,
                                                              stub):
    config = pool(stub, "claude", count=3)
    for entry, weight in zip(config["claude-api-key"], (5, 3, 2)):
        entry["weight"] = weight
    daemon = make_daemon({**config, "routing": {
        "strategy": "weighted-round-robin"}})
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: daemon.ask(CLAUDE, f"hi {n}"), range(40)))
    assert spread(stub) == {"claude1": 20, "claude2": 12, "claude3": 8}
    for entry, weight in zip(config["claude-api-key"], (1, 1, 0)):
        entry["weight"] = weight
    daemon.with_config(**{"claude-api-key": config["claude-api-key"]}
                       ).reload()
    seen = len(stub.log)
    for n in range(20):
        assert daemon.ask(CLAUDE, f"hi {n}").status == 200
    after = collections.Counter(accounts_used(stub)[seen:])
    assert after == {"claude1": 10, "claude2": 10}


# -- what an edit ends ------------------------------------------------------

def test_suffixes_share_their_cooldown(make_daemon, stub):
    daemon = make_daemon(pool(stub, "claude", count=1))
    stub.fault("status", code=429, headers={"retry-after": "60"})
    assert daemon.ask(CLAUDE, "hi", model="claude-stub(high)").status == 429
    seen = len(stub.log)
    for model in ("claude-stub", "claude-stub(low)", "claude-stub(8192)"):
        assert daemon.ask(CLAUDE, "hi", model=model).status == 429
    assert len(stub.log) == seen


@pytest.mark.parametrize("code, clears", ((429, False), (403, True)))
def test_only_a_quota_outlives_a_change_of_what_is_served(
        make_daemon, stub, code, clears):
    config = pool(stub, "claude", count=1)
    daemon = make_daemon({**config, "request-retry": 0})
    stub.fault("status", code=code, headers={"retry-after": "600"})
    assert daemon.ask(CLAUDE, "hi").status == code
    entry = config["claude-api-key"][0]
    entry["priority"] = 7
    daemon.with_config(**{"claude-api-key": [entry]}).reload()
    assert daemon.ask(CLAUDE, "hi").status != 200
    entry["models"].append({"name": "another"})
    daemon.with_config(**{"claude-api-key": [entry]}).reload()
    assert (daemon.ask(CLAUDE, "hi").status == 200) is clears
