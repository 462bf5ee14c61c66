"""Corrupt clients in a simulation: the real machine, whose messages are rewritten before they leave.

A corrupt client has its own identity key, so what it rewrites it signs again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import cast

from protocols import simulated, simulation, wire
from protocols.client_session import ClientSession
from protocols.context import ClientId, RoundContext
from protocols.membership import AwaitCohort, Seated
from protocols.messages import Body, Shares
from protocols.noise import Seed
from protocols.outputs import Output, Send
from protocols.pairwise import client as machine
from protocols.pairwise.place import Place
from protocols.policy import ClientPolicy
from secagg.ring import Words
from secagg.secret import SecretBytes

from .attack import replaced

Rewrite = Callable[[Body], Body]


class Saboteur:
    """One corrupt client.

    Args:
        session: The real one, whose state is the adversary's.
        rewrite: Told each message that is about to leave, an abort aside; returns what leaves instead.
    """

    def __init__(self, session: ClientSession, rewrite: Rewrite) -> None:
        self.session, self._rewrite = session, rewrite

    @property
    def over(self) -> bool:
        """As the session says."""
        return self.session.over

    def receive(self, data: bytes, now: float) -> list[Output]:
        """What the session answers, rewritten."""
        return self._rewritten(self.session.receive(data, now))

    def submit(
        self, vector: Words, now: float, *, round: int | None = None, noise_seed: Seed | None = None
    ) -> list[Output]:
        """The masked vector, rewritten."""
        return self._rewritten(self.session.submit(vector, now, round=round, noise_seed=noise_seed))

    def _rewritten(self, outputs: list[Output]) -> list[Output]:
        return [self._sign(o) if isinstance(o, Send) else o for o in outputs]

    def _sign(self, send: Send) -> Output:
        envelope = wire.decode_envelope(send.data)
        if envelope.kind == "client-abort":
            return send
        body = self._rewrite(wire.decode_body(envelope, wire.KINDS[envelope.kind]))
        session = self.session
        return Send(send.to, wire.encode_message(self.context, session._me, body, session._identity))

    @property
    def context(self) -> RoundContext:
        """Of the messages it signs now."""
        if self.session._round is not None:
            return self.session._round.context
        return cast("AwaitCohort | Seated", self.session._session).context


@contextmanager
def dealer(client: ClientId, **replacements: object) -> Iterator[None]:
    """Inside the block a corrupt client deals with these in place of its machine's own functions, by name.

    It has to lie before it deals: what it sealed with is gone afterwards, from its own state as well.
    """
    honest = machine.open_round

    def open_round(
        place: Place, context: RoundContext, *, seed: SecretBytes, channels: Mapping[ClientId, SecretBytes]
    ) -> tuple[machine.AwaitShares, Shares]:
        own = replacements if place.me == client else {}
        with replaced(*((machine, name, function) for name, function in own.items())):
            return honest(place, context, seed=seed, channels=channels)

    with replaced((machine, "open_round", open_round)):
        yield


@contextmanager
def saboteurs(rewrites: Mapping[int, Rewrite]) -> Iterator[None]:
    """Simulations that begin inside the block have these corrupt clients."""
    honest = simulated.client_sessions

    def client_sessions(
        root: SecretBytes, ids: Iterable[ClientId], policy: ClientPolicy
    ) -> dict[ClientId, ClientSession]:
        sessions = honest(root, ids, policy)
        for client, rewrite in rewrites.items():
            session = sessions[ClientId(client)]
            sessions[ClientId(client)] = cast("ClientSession", Saboteur(session, rewrite))
        return sessions

    with replaced((simulation, "client_sessions", client_sessions)):
        yield
