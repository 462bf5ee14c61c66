"""A key custodian in a process of its own: the server adds ciphertexts, and somebody else opens the sum.

The custodian makes its identity and every round's key where nobody else looks; what leaves its process are
public keys, signatures and the sum. Clients pin its public key and refuse a round under any other.

Under "bfv-masked" vectors are masked as well, so the custodian cannot open less than the sum, and the server
learns no sum. Under "ckks" they are not: it holds only if server and custodian follow the protocol and do not
collude, and everybody must have said that they rely on it.

Run: python examples/key_custodian.py
"""

import secrets
import subprocess
import sys
import time

import numpy as np

from protocols import (
    CUSTODIAN,
    Aborted,
    ClientId,
    ClientPolicy,
    CustodianPolicy,
    Finished,
    NeedInput,
    Refused,
    RoundConfig,
    Send,
    enrol,
    open_client,
    open_custodian,
    open_server,
    prepare,
    reveal,
    sign_task,
)
from secagg.keys import SigningKey
from secagg.secret import SecretBytes

N = 6


def fresh_key() -> SigningKey:
    return SigningKey.from_seed(SecretBytes(secrets.token_bytes(32)))


def write(pipe, data: bytes) -> None:
    pipe.write(len(data).to_bytes(8, "little") + data)
    pipe.flush()


def read(pipe) -> bytes | None:
    head = pipe.read(8)
    return pipe.read(int.from_bytes(head, "little")) if len(head) == 8 else None


def custodian(authority: str, operator: str) -> None:
    """The other process: messages in on standard input, out on standard output, the sum on standard error."""
    pipe_in, pipe_out, identity = sys.stdin.buffer, sys.stdout.buffer, fresh_key()
    policy = CustodianPolicy(authority=bytes.fromhex(authority), operator=bytes.fromhex(operator))
    session = open_custodian(policy, identity)
    write(pipe_out, identity.public)
    while (data := read(pipe_in)) is not None:
        for output in session.receive(data, time.time()):
            match output:
                case Send(_, message):
                    write(pipe_out, message)
                case Finished(total=total):
                    print(f"the custodian opened {total[:4]} grid units", file=sys.stderr, flush=True)
                    write(pipe_out, b"")  # its owner hands the sum on as it likes; here to the example
                    write(pipe_out, total.astype("<i8").tobytes())
                case Aborted(error) | Refused(_, error):
                    print(f"the custodian opened nothing: {error}", file=sys.stderr, flush=True)
                    write(pipe_out, b"")
                    write(pipe_out, b"")


def run(config: RoundConfig, **accepted) -> np.ndarray:
    """One round, and the mean that the custodian's owner makes of it."""
    authority, operator = fresh_key(), fresh_key()
    child = subprocess.Popen(
        [sys.executable, __file__, authority.public.hex(), operator.public.hex()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    pinned = read(child.stdout)
    identities = {ClientId(i): fresh_key() for i in range(N)}
    public = {i: key.public for i, key in identities.items()}
    enrolment = enrol(authority, public, serial=1, expires=int(time.time()) + 3600)
    policy = ClientPolicy(authority=authority.public, operator=operator.public, custodian=pinned, **accepted)
    clients = {i: open_client(policy, key, me=i) for i, key in identities.items()}
    task = sign_task(operator, config)
    server, outputs = open_server(task, enrolment, now=time.time(), custodian=pinned)
    total = b""

    def deliver(to: ClientId, data: bytes) -> list:
        """To whom it may concern, and what the server makes of the answer."""
        if to == CUSTODIAN:
            write(child.stdin, data)
            return []
        answers, results = clients[to].receive(data, time.time()), []
        for answer in answers:
            if isinstance(answer, NeedInput):
                update = np.full(config.length, float(to))
                vector = prepare(update, config=answer.config, seed=secrets.token_bytes(32))
                answers += clients[to].submit(vector, time.time(), round=answer.round)
            elif isinstance(answer, Send):
                results += server.receive(to, answer.data, time.time())
        return results

    opened = False
    while not total:
        while outputs:
            if isinstance(output := outputs.pop(0), Send):
                for to in output.to:
                    outputs += deliver(to, output.data)
        if not opened:
            outputs, opened = server.open_round(now=time.time()), True
        elif answer := read(child.stdout):
            outputs = server.receive(CUSTODIAN, answer, time.time())
        else:
            total = read(child.stdout)
            break
    child.stdin.close()
    child.wait()
    if not total:
        raise SystemExit("the custodian opened nothing; it said why")
    return reveal(np.frombuffer(total, "<i8").astype(np.int64), config=config).sum / N


def main() -> None:
    masked = RoundConfig(clients=N, length=4, clip=100.0, value_bits=20, protection="bfv-masked")
    print(f"masked and encrypted: the mean is {np.round(run(masked), 3)}")
    plain = RoundConfig(
        clients=N, length=4, clip=100.0, value_bits=20, protection="ckks", server="semi-honest"
    )
    accepted = {"protections": frozenset({"ckks"}), "servers": frozenset({"semi-honest"})}
    print(f"encrypted alone: the mean is {np.round(run(plain, **accepted), 3)}")


if __name__ == "__main__":
    custodian(*sys.argv[1:]) if len(sys.argv) > 1 else main()
