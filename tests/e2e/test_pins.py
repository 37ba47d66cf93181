# SPDX-License-Identifier: MIT
"""What only one account can read goes back to that account."""

import json
import subprocess
import uuid

import pytest

from harness import (BUILD, CLIENT_KEY, OTHER_KEY, RESPONSES, as_json,
                     frame_data, header, merged, pool, read_events, wait_for)

AFFINITY = {"routing": {"session-affinity": True}}


@pytest.fixture
def chained(make_daemon, stub):
    """Four accounts that take turns, since no session tells them which."""
    return make_daemon(merged(pool(stub, RESPONSES.provider, count=4),
                              {"routing": {"session-affinity": False}}))


def fresh_text() -> str:
    return f"text {uuid.uuid4()}"


def ask(daemon, stub, *turns, key=CLIENT_KEY, headers=None, **fields):
    """(account, answer) of a request that is served."""
    answer = daemon.ask(RESPONSES, *(turns or (fresh_text(),)), key=key,
                        headers=headers, **fields)
    assert answer.status == 200, answer
    return stub.log[-1]["account"], as_json(answer)


def credential_of(daemon, stub, account: str) -> str:
    """The id of the credential that has served that account alone."""
    before = {name: row["succeeded"]
              for name, row in daemon.credentials().items()}
    while True:
        used, _ = ask(daemon, stub)
        after = daemon.credentials()
        (name,) = [name for name, row in after.items()
                   if row["succeeded"] > before[name]]
        if used == account:
            return name
        before = {name: row["succeeded"] for name, row in after.items()}


def refused(answer) -> str:
    assert answer.status == 409, answer
    error = as_json(answer)["error"]
    assert error["code"] == "pinned_credential_unavailable"
    return error["message"]


def test_a_chain_stays_where_it_began(chained, stub):
    homes = set()
    for _ in range(4):
        home, answer = ask(chained, stub)
        homes.add(home)
        for _ in range(3):
            account, answer = ask(chained, stub,
                                  previous_response_id=answer["id"])
            assert account == home
    assert len(homes) == 4, "requests without a pin go round"


def test_streamed_ids_pin_before_the_stream_ends(chained, stub):
    stub.fault("pace", count=40, ms=50)
    with chained.client() as client:
        response = client.open("POST", RESPONSES.path(True),
                               RESPONSES.body(fresh_text(), stream=True))
        home = stub.log[-1]["account"]
        frames = read_events(response)
        ident = next(data["response"]["id"] for data in
                     map(frame_data, frames) if "response" in data)
        for _ in range(4):
            account, _ = ask(chained, stub, previous_response_id=ident)
            assert account == home


def test_turn_state_pins(chained, stub):
    stub.fault("headers", headers={"x-codex-turn-state": "turn-one"})
    answer = chained.ask(RESPONSES, fresh_text())
    assert header(answer, "x-codex-turn-state") == "turn-one"
    home = stub.log[-1]["account"]
    for _ in range(4):
        account, _ = ask(chained, stub,
                         headers={"x-codex-turn-state": "turn-one"})
        assert account == home
    others = {ask(chained, stub)[0] for _ in range(4)}
    assert len(others) == 4


@pytest.mark.parametrize("how", ("whole", "stream", "compact"))
def test_compaction_items_pin(chained, stub, how):
    if how == "stream":
        _, frames = chained.stream(RESPONSES, "STUB:compact " + fresh_text())
        answer = next(data["response"] for data in map(frame_data, frames)
                      if data["type"] == "response.completed")
    elif how == "whole":
        _, answer = ask(chained, stub, "STUB:compact " + fresh_text())
    else:
        answer = as_json(chained.post("/v1/responses/compact",
                                      RESPONSES.body(fresh_text())))
    home = stub.log[-1]["account"]
    (item,) = [item for item in answer["output"]
               if item["type"] == "compaction"]
    for _ in range(4):
        account, _ = ask(chained, stub, input=[
            {"role": "user", "content": fresh_text()}, item])
        assert account == home


def test_pins_belong_to_one_client(chained, stub):
    """Another tenant's id says nothing; the provider decides."""
    home, answer = ask(chained, stub)
    seen = set()
    for _ in range(4):
        chained.ask(RESPONSES, fresh_text(), key=OTHER_KEY,
                    previous_response_id=answer["id"])
        seen.add(stub.log[-1]["account"])
    assert seen != {home}


def test_unknown_id_is_the_providers_matter(chained, stub):
    ask(chained, stub, previous_response_id="resp_nobody_knows")


def test_pinned_credential_that_cannot_serve_is_409(chained, stub):
    home, answer = ask(chained, stub)
    name = credential_of(chained, stub, home)
    assert chained.ctl_run("credential", name, "disable").returncode == 0
    before = len(stub.log)
    told = chained.ask(RESPONSES, "next", previous_response_id=answer["id"])
    assert "previous_response_id" in refused(told)
    assert len(stub.log) == before, "nobody else was asked"
    assert chained.ctl_run("credential", name, "enable").returncode == 0
    account, _ = ask(chained, stub, previous_response_id=answer["id"])
    assert account == home


def test_pinned_credential_that_fails_is_409(chained, stub):
    home, answer = ask(chained, stub)
    stub.fault("status", home, times=1, code=429, headers={
        "retry-after": "30"})
    before = len(stub.log)
    for _ in range(2):
        told = chained.ask(RESPONSES, "next",
                           previous_response_id=answer["id"])
        refused(told)
        assert 25 <= int(header(told, "retry-after")) <= 30
    assert len(stub.log) == before + 1


def test_pin_on_a_removed_credential_is_409(chained, stub):
    home, answer = ask(chained, stub)
    keys = [entry for entry in chained.config["codex-api-key"]
            if not entry["api-key"].endswith(home)]
    assert len(keys) == 3
    chained.with_config(codex_api_key=keys)
    chained.reload()
    refused(chained.ask(RESPONSES, "next",
                        previous_response_id=answer["id"]))
    ask(chained, stub)


def test_soft_pins_fall_back(make_daemon, stub):
    daemon = make_daemon(merged(
        pool(stub, RESPONSES.provider, count=4),
        {"routing": {"session-affinity": False, "hard-pins": False}}))
    home, answer = ask(daemon, stub)
    for _ in range(3):
        account, _ = ask(daemon, stub, previous_response_id=answer["id"])
        assert account == home
    stub.fault("status", home, times=1, code=401)
    told = daemon.ask(RESPONSES, "next", previous_response_id=answer["id"])
    # The account that is asked instead does not know the response.
    assert told.status == 400
    assert as_json(told)["error"]["code"] == "previous_response_not_found"


def test_a_pin_moves_no_session(make_daemon, stub):
    daemon = make_daemon(merged(pool(stub, RESPONSES.provider, count=4),
                                AFFINITY))
    session = {"session-id": f"s-{uuid.uuid4()}"}
    home, _ = ask(daemon, stub, headers=session)
    other, answer = home, {}
    while other == home:
        other, answer = ask(daemon, stub, headers={
            "session-id": f"s-{uuid.uuid4()}"})
    account, _ = ask(daemon, stub, headers=session,
                     previous_response_id=answer["id"])
    assert account == other
    assert ask(daemon, stub, headers=session)[0] == home
    # Where nothing else says so, the session is bound to its state.
    new = {"session-id": f"s-{uuid.uuid4()}"}
    assert ask(daemon, stub, headers=new,
               previous_response_id=answer["id"])[0] == other
    assert ask(daemon, stub, headers=new)[0] == other


def test_pins_survive_kill_minus_9(chained, stub):
    home, answer = ask(chained, stub)
    chained.kill9()
    chained.start()
    for _ in range(4):
        account, answer = ask(chained, stub,
                              previous_response_id=answer["id"])
        assert account == home


def test_pins_are_kept_as_soon_as_the_lock_is_to_be_had(chained, stub):
    with subprocess.Popen(
            [BUILD / "tests" / "process" / "hold-bindings",
             chained.runtime_dir],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        told = [ask(chained, stub) for _ in range(3)]
        holder.stdin.close()
    assert holder.returncode == 0
    for home, answer in told:
        pinned = wait_for(lambda: pin_of(chained, chained.ask(
            RESPONSES, fresh_text(), previous_response_id=answer["id"])))
        assert pinned == "previous_response_id"
        assert ask(chained, stub, previous_response_id=answer["id"])[
            0] == home


def pin_of(daemon, answer) -> str | None:
    return daemon.ctl("why", header(answer, "x-fairlead-request-id"))["pin"]


def sealed_turns(item: dict) -> list[dict]:
    return [{"role": "user", "content": "one"}, item,
            {"role": "assistant", "content": "answer"},
            {"role": "user", "content": fresh_text()}]


@pytest.mark.parametrize("stream", (False, True))
def test_foreign_reasoning_is_left_out_once(make_daemon, stub, stream):
    daemon = make_daemon(merged(pool(stub, RESPONSES.provider, count=2),
                                AFFINITY))
    session = {"session-id": f"s-{uuid.uuid4()}"}
    home, answer = ask(daemon, stub, "STUB:reason one", headers=session)
    (item,) = [item for item in answer["output"]
               if item["type"] == "reasoning"]
    stub.fault("status", home, times=1, code=429)
    before = len(stub.log)
    body = {"model": RESPONSES.model, "store": False,
            "input": sealed_turns(item), **({"stream": True} if stream
                                            else {})}
    told = daemon.post(RESPONSES.path(), body, session)
    assert told.status == 200, told
    first, second, third = stub.log[before:]
    assert (first["account"], first["status"]) == (home, 429)
    assert second["status"] == 400 and third["status"] == 200
    assert second["account"] == third["account"] != home
    assert item in json.loads(second["body"])["input"]
    # All but the item, byte for byte.
    assert json.loads(third["body"]) == {
        **body, "input": [one for one in body["input"] if one != item]}
    assert third["size"] < second["size"]


def test_reasoning_alone_does_not_pin(chained, stub):
    _, answer = ask(chained, stub, "STUB:reason one")
    (item,) = [item for item in answer["output"]
               if item["type"] == "reasoning"]
    accounts = {ask(chained, stub, input=sealed_turns(item))[0]
                for _ in range(8)}
    assert len(accounts) > 1


def test_what_stays_unreadable_is_told(chained, stub):
    """Without reasoning to leave out the provider's error is passed on."""
    _, answer = ask(chained, stub, "STUB:compact one")
    (item,) = [item for item in answer["output"]
               if item["type"] == "compaction"]
    told = chained.ask(RESPONSES, key=OTHER_KEY, input=[
        item, {"role": "user", "content": "hi"}])
    while told.status == 200:
        told = chained.ask(RESPONSES, key=OTHER_KEY, input=[
            item, {"role": "user", "content": "hi"}])
    assert told.status == 400
    assert as_json(told)["error"]["code"] == "invalid_encrypted_content"
