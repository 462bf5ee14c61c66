"""A process per message: sessions that live in files between one message and the next.

Every turn opens its party's store, restores the session, handles one message and forgets everything.
Whatever is sent, the state behind it was committed first. A turn that is killed is started again: a client
gives the same answer to the same message, and `resume` gives again what a server gave last.

Run: python examples/process_per_message.py
"""

import secrets
import tempfile
import time
from collections import deque
from pathlib import Path

import numpy as np

from protocols import (
    SERVER,
    ClientId,
    ClientPolicy,
    Finished,
    NeedInput,
    Persist,
    RoundConfig,
    SavedState,
    Send,
    StateStore,
    enrol,
    open_durable_client,
    open_durable_server,
    prepare,
    restore_client,
    restore_server,
    sign_task,
)
from secagg.keys import SigningKey
from secagg.secret import SecretBytes

N = 5


def fresh_key() -> SigningKey:
    return SigningKey.from_seed(SecretBytes(secrets.token_bytes(32)))


authority, operator = fresh_key(), fresh_key()
identities = {ClientId(i): fresh_key() for i in range(N)}
public = {i: key.public for i, key in identities.items()}
enrolment = enrol(authority, public, serial=1, expires=int(time.time()) + 3600)
task = sign_task(operator, RoundConfig(clients=N, length=4, clip=100.0, value_bits=20))
policy = ClientPolicy(authority=authority.public, operator=operator.public)


def client_turn(me: ClientId, store: StateStore, data: bytes) -> list[bytes]:
    saved = store.load()
    if saved is None:
        session = open_durable_client(policy, identities[me], me=me)
    else:
        session = restore_client(saved, policy, identities[me], me=me)
    outputs, sent = deque(session.receive(data, time.time())), []
    while outputs:
        match outputs.popleft():
            case Persist(SavedState() as state):
                store.commit(state)
            case NeedInput(round=number, config=config):
                vector = prepare(np.full(4, float(me)), config=config, seed=secrets.token_bytes(32))
                outputs.extend(session.submit(vector, time.time(), round=number))
            case Send(_, message):
                sent.append(message)
    return sent


def committed(store: StateStore, outputs: list) -> list:
    """What is left to do once the states are on disk."""
    for output in outputs:
        if isinstance(output, Persist) and isinstance(output.record, SavedState):
            store.commit(output.record)
    return [output for output in outputs if not isinstance(output, Persist)]


def server_turn(store: StateStore, sender: ClientId, data: bytes) -> list:
    session = restore_server(store.load(), task, enrolment, now=time.time())
    outputs = session.receive(sender, data, time.time())
    if not session.phase and not any(isinstance(output, Finished) for output in outputs):
        outputs += session.open_round(now=time.time())
    outputs = committed(store, outputs)
    store.commit(session.dump())  # a phase's messages are written only here: this process ends within it
    return outputs


with tempfile.TemporaryDirectory() as place:
    stores = {party: StateStore.open(Path(place) / f"{party}.state") for party in (*identities, SERVER)}
    _, outputs = open_durable_server(task, enrolment, now=time.time())
    queue, turns = deque(committed(stores[SERVER], outputs)), 0
    while queue:
        match queue.popleft():
            case Send(to, data):
                for i in to:
                    for reply in client_turn(i, stores[i], data):
                        queue.extend(server_turn(stores[SERVER], i, reply))
                        turns += 2
            case Finished(total=total):
                opened = np.round(total / task.configs[0].grid.scale, 3)
                print(f"the server opened {opened} after {turns} turns, each from a file")
    for store in stores.values():
        store.close()
