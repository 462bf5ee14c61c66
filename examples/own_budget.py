"""A client with a privacy budget of its own: it sits out what would exceed it, whatever the server asks.

Five clients, four rounds, a process that ends in between. Client 0 keeps a ledger and has a budget for two
rounds; before a vector of its leaves, the round is committed there. `secagg budget` reads the same file.

Run: python examples/own_budget.py
"""

import secrets
import tempfile
import time
from pathlib import Path

import numpy as np

from protocols import (
    Budget,
    BudgetError,
    ClientId,
    ClientPolicy,
    Finished,
    NeedInput,
    RoundConfig,
    Send,
    SkellamNoise,
    enrol,
    open_client,
    open_server,
    prepare,
    sign_task,
)
from secagg.keys import SigningKey
from secagg.secret import SecretBytes

N = 5
EPSILON, DELTA = 2.2, 1e-5  # enough for two rounds of this noise and not for three


def fresh_key() -> SigningKey:
    return SigningKey.from_seed(SecretBytes(secrets.token_bytes(32)))


authority, operator = fresh_key(), fresh_key()
identities = {ClientId(i): fresh_key() for i in range(N)}
public = {i: key.public for i, key in identities.items()}
enrolment = enrol(authority, public, serial=1, expires=int(time.time()) + 3600)
noise = SkellamNoise(multiplier=3.0)
config = RoundConfig(
    clients=N, length=4, clip=1.0, value_bits=12, corrupt=1, minimum_survivors=4, noise=noise
)
policy = ClientPolicy(
    authority=authority.public, operator=operator.public, corrupt_fraction=0.2, minimum_noise_multiplier=3.0
)


def answer(session, data: bytes, budget: Budget | None) -> list[bytes]:
    outputs = session.receive(data, time.time())
    for need in [output for output in outputs if isinstance(output, NeedInput)]:
        try:
            if budget is not None:
                budget.spend(need)  # on disk before anything leaves
        except BudgetError as error:
            print(f"  client 0 sits out: {error}")
            return []
        vector = prepare(np.full(4, 0.1), config=need.config, seed=secrets.token_bytes(32))
        outputs = session.submit(vector, time.time(), round=need.round)
    return [output.data for output in outputs if isinstance(output, Send)]


def session_of_two_rounds(budget: Budget) -> None:
    server, outputs = open_server(sign_task(operator, config), enrolment, now=time.time(), phase_seconds=0.2)
    clients = {i: open_client(policy, key, me=i) for i, key in identities.items()}
    rounds = 0
    while True:
        while outputs:
            match outputs.pop(0):
                case Send(to, data):
                    for i in to:
                        for message in answer(clients[i], data, budget if i == 0 else None):
                            outputs += server.receive(i, message, time.time())
                case Finished(survivors=survivors):
                    print(f"  a sum of clients {list(survivors)} is opened")
        if server.phase:
            outputs = server.tick(time.time())
        elif rounds == 2:
            return
        else:
            rounds, outputs = rounds + 1, server.open_round(now=time.time())


with tempfile.TemporaryDirectory() as place:
    for number in (1, 2):
        print(f"session {number}")
        with Budget.open(Path(place) / "own.sqlite", epsilon=EPSILON, delta=DELTA) as own:
            session_of_two_rounds(own)
            print(f"  client 0 has spent epsilon {own.spent():.3f} of {EPSILON} at delta {DELTA}")
