"""The same machines over a transport of your own: here, queues between threads.

One thread per client, one for the server. Each side feeds bytes in and sends bytes out; identities
are enrolled with an authority that is not the server.

Run: python examples/own_transport.py
"""

import queue
import secrets
import threading
import time

import numpy as np

from protocols import (
    Aborted,
    ClientId,
    ClientPolicy,
    Finished,
    NeedInput,
    Persist,
    RoundConfig,
    Send,
    enrol,
    open_client,
    open_server,
    prepare,
    sign_task,
)
from secagg.keys import SigningKey
from secagg.secret import SecretBytes

N = 5
to_server: queue.Queue = queue.Queue()
to_client: dict = {ClientId(i): queue.Queue() for i in range(N)}


def fresh_key() -> SigningKey:
    return SigningKey.from_seed(SecretBytes(secrets.token_bytes(32)))


def client(me: ClientId, identity: SigningKey, policy: ClientPolicy) -> None:
    session = open_client(policy, identity, me=me)
    update = np.full(4, float(me))
    while (data := to_client[me].get()) is not None:
        outputs = list(session.receive(data, time.time()))
        while outputs:
            match outputs.pop(0):
                case Send(_, message):
                    to_server.put((me, message))
                case NeedInput(round=number, config=config):
                    vector = prepare(update, config=config, seed=secrets.token_bytes(32))
                    outputs += session.submit(vector, time.time(), round=number)
                case Aborted(error):
                    print(f"client {me} leaves: {error}")


def main() -> None:
    authority, operator = fresh_key(), fresh_key()
    identities = {ClientId(i): fresh_key() for i in range(N)}
    public = {i: key.public for i, key in identities.items()}
    enrolment = enrol(authority, public, serial=1, expires=int(time.time()) + 3600)
    policy = ClientPolicy(authority=authority.public, operator=operator.public)
    threads = [threading.Thread(target=client, args=(i, identities[i], policy)) for i in identities]
    for thread in threads:
        thread.start()

    task = sign_task(operator, RoundConfig(clients=N, length=4, clip=100.0, value_bits=20))
    server, outputs = open_server(task, enrolment, now=time.monotonic(), phase_seconds=5.0)
    opened, total = False, None
    while total is None:
        while outputs:
            match outputs.pop(0):
                case Send(to, data):
                    for i in to:
                        to_client[i].put(data)
                case Finished(total=total):
                    pass
                case Persist(record):
                    print(f"a ledger writes this first: a sum of {len(record.survivors)} opens")
        if total is not None:
            break
        if server.phase == "" and not opened:
            outputs, opened = server.open_round(now=time.monotonic()), True
            continue
        try:
            sender, message = to_server.get(timeout=0.1)
            outputs = server.receive(sender, message, time.monotonic())
        except queue.Empty:
            outputs = server.tick(time.monotonic())
    for i in to_client:
        to_client[i].put(None)
    for thread in threads:
        thread.join()
    print(f"the server opened {np.round(total / task.configs[0].grid.scale, 3)}")


if __name__ == "__main__":
    main()
