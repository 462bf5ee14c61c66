"""A round among forked processes, one of which is killed with SIGKILL at one of its durable writes.

Run by `test_killed.py`: `python killed_parties.py DIR GRAPH CASES`, where GRAPH is "complete" or "sparse"
and CASES is a JSON list of objects with `party` (a client, -1 for the server, or "witness" for the first of
the witnesses), `write` (the state's number) and `when` ("before" or "after" its commit). The mutant has
`send_first`, and `silent`: a client that is gone once the victim was killed, as is what the victim had under
way. Prints one JSON object per case.
"""

import hashlib
import json
import multiprocessing
import os
import signal
import sys
from collections import deque
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import numpy as np

from protocols import (
    SERVER,
    Aborted,
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
    restore_client,
    restore_server,
    sign_task,
)
from protocols.outputs import Opening
from protocols.wire import decode_envelope
from secagg.keys import SigningKey
from secagg.secret import SecretBytes

CONFIGS = {
    "complete": RoundConfig(clients=4, length=3, clip=1.0, corrupt=1, threshold=3, minimum_survivors=3),
    "sparse": RoundConfig(
        clients=10, length=3, clip=1.0, corrupt=1, degree=8, minimum_survivors=6, value_bits=8
    ),
}
CONFIG = CONFIGS[sys.argv[2]]
IDS = [ClientId(i) for i in range(CONFIG.clients)]


def key(name: str) -> SigningKey:
    return SigningKey.from_seed(SecretBytes(hashlib.sha256(name.encode()).digest()))


IDENTITIES = {v: key(f"client {v}") for v in IDS}
ENROLMENT = enrol(key("authority"), {v: k.public for v, k in IDENTITIES.items()}, serial=1, expires=1 << 40)
TASK = sign_task(key("operator"), CONFIG)
POLICY = ClientPolicy(
    authority=key("authority").public, operator=key("operator").public, corrupt_fraction=1 / len(IDS)
)


class Shell:
    """One process: what it restores, what it commits, when it dies."""

    def __init__(self, party: ClientId, pipe: Connection, path: Path, case: dict, first_life: bool) -> None:
        self.party, self.pipe, self.store = party, pipe, StateStore.open(path)
        self.victim = case["party"] if case["party"] != -1 else SERVER
        self.send_first = party == self.victim and case.get("send_first", False)
        self.death = (case["write"], case["when"]) if first_life else None
        saved = self.store.load()
        if party == SERVER:
            self.session, outputs = self.server(saved)
        else:
            self.session, outputs = self.client(saved)
        self.act(outputs)

    def server(self, saved: bytes | None):
        if saved is None:
            return open_durable_server(TASK, ENROLMENT, now=0.0)
        session = restore_server(saved, TASK, ENROLMENT, now=0.0)
        return session, session.resume()

    def client(self, saved: bytes | None):
        if saved is None:
            return open_durable_client(POLICY, IDENTITIES[self.party], me=self.party), []
        session = restore_client(saved, POLICY, IDENTITIES[self.party], me=self.party)
        return session, session.resume()

    def serve(self) -> None:
        """Frames in, frames out, a phase at the end of each."""
        while True:
            self.say("rest", self.session.phase if self.party == SERVER else "")
            what, sender, data = msgspec.msgpack.decode(self.pipe.recv_bytes())
            if what == "open" and self.session.phase == "":
                self.act(self.session.open_round(now=0.0, model=b"model"))
            elif what == "tick":
                self.act(self.session.tick(self.session.deadline))
            elif what == "take" and self.party == SERVER:
                self.act(self.session.receive(sender, data, 0.0))
            elif what == "take":
                self.act(self.session.receive(data, 0.0))

    def act(self, outputs: list) -> None:
        todo = deque(sorted(outputs, key=lambda o: isinstance(o, Persist)) if self.send_first else outputs)
        while todo:
            match todo.popleft():
                case Persist(SavedState() as state):
                    self.perhaps_die(state.sequence, "before")
                    self.store.commit(state)
                    self.perhaps_die(state.sequence, "after")
                case Persist(Opening() as opening):
                    self.say("opening", [opening.session.hex(), opening.round, opening.survivors])
                case Send(to, data):
                    self.say("send", [to, data])
                case NeedInput(round=number):
                    vector = CONFIG.encoding.encode(np.full(3, self.party + 1, np.int64))
                    self.act(self.session.submit(vector, 0.0, round=number))
                case Finished(total=total, survivors=survivors):
                    self.say("finished", [total.tolist(), survivors])
                case Aborted(error):
                    self.say("aborted", str(error.code))

    def perhaps_die(self, write: int, when: str) -> None:
        if self.death == (write, when) and self.party == self.chosen():
            os.kill(os.getpid(), signal.SIGKILL)

    def chosen(self) -> ClientId | None:
        """Whom the case kills. Who is a witness is drawn with the cohort."""
        if self.victim != "witness":
            return self.victim
        known = self.session._session.memory()[0] if self.party != SERVER else None
        return known.session.cohort.witnesses[0] if known is not None else None

    def say(self, what: str, content: object) -> None:
        self.pipe.send_bytes(msgspec.msgpack.encode([what, content]))


def live(*arguments) -> None:
    Shell(*arguments).serve()


class Hub:
    """The network: holds a frame until its receiver has come to rest, and starts the dead again."""

    def __init__(self, directory: Path, case: dict) -> None:
        self.directory, self.case = directory, case
        self.processes: dict = {}
        self.phase, self.deaths, self.queue = "", 0, deque()
        self.result: dict = {"wire": [], "opening": [], "finished": [], "aborted": []}
        for party in (*IDS, SERVER):
            self.start(party, first_life=True)

    def start(self, party: ClientId, *, first_life: bool) -> None:
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        arguments = (party, theirs, self.directory / f"{party}.sqlite", self.case, first_life)
        process = context.Process(target=live, args=arguments, daemon=True)
        process.start()
        theirs.close()
        self.processes[party] = process, ours
        if not self.listen(party):
            self.bury(party)

    def bury(self, party: ClientId) -> None:
        process, pipe = self.processes[party]
        process.join()
        pipe.close()
        assert process.exitcode == -signal.SIGKILL, f"party {party} ended with {process.exitcode}"
        self.deaths += 1
        if "silent" in self.case:  # its connections went with it, and what was under way on them
            self.queue = deque(frame for frame in self.queue if frame[1] != party)
        self.start(party, first_life=False)

    def hand(self, party: ClientId, frame: list) -> None:
        """At least once: again, if its receiver was killed over it."""
        data = msgspec.msgpack.encode(frame)
        for _ in range(3):
            self.processes[party][1].send_bytes(data)
            if self.listen(party):
                return
            self.bury(party)

    def listen(self, party: ClientId) -> bool:
        """Take what a party says until it rests; whether it lived to."""
        while True:
            try:
                what, content = msgspec.msgpack.decode(self.processes[party][1].recv_bytes())
            except (EOFError, ConnectionResetError):
                return False
            if what == "rest":
                self.phase = content if party == SERVER else self.phase
                return True
            if what == "send":
                to, data = content
                envelope = decode_envelope(data)
                digest = hashlib.sha256(data).hexdigest()
                session = envelope.session.hex()
                self.result["wire"].append([session, envelope.round, party, envelope.kind, to, digest])
                self.queue.extend((receiver, party, data) for receiver in to)
            else:
                self.result[what].append(content)

    def run(self) -> dict:
        opened = False
        for _ in range(1000):
            if self.queue:
                receiver, sender, data = self.queue.popleft()
                if not (self.deaths and self.case.get("silent") in (receiver, sender)):
                    self.hand(receiver, ["take", sender, data])
            elif self.result["finished"]:
                break
            elif self.phase == "" and not opened:
                opened = True
                self.hand(SERVER, ["open", 0, b""])
            elif self.phase != "":
                self.hand(SERVER, ["tick", 0, b""])
            else:
                break
        for process, pipe in self.processes.values():
            process.kill()
            process.join()
            pipe.close()
        return {**self.case, **self.result, "deaths": self.deaths}


def main() -> None:
    root, cases = Path(sys.argv[1]), json.loads(sys.argv[3])
    for number, case in enumerate(cases):
        directory = root / f"{os.getpid()}-{number}"
        directory.mkdir()
        print(json.dumps(Hub(directory, case).run()), flush=True)


if __name__ == "__main__":
    main()
