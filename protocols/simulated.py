"""A simulation's clients, derived from its seed, and how messages reach those that live in this process.

For simulations only: whoever knows the seed knows every key.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from secagg.kdf import Label, derive
from secagg.keys import SigningKey
from secagg.ring import Words
from secagg.secret import SecretBytes

from .client_session import ClientSession
from .context import ClientId
from .meter import Meter
from .outputs import NeedInput, Output
from .policy import ClientPolicy

Letter = tuple[ClientId, bytes]
# The vector of a client for the round of that number; None if it sits the round out.
MakeInput = Callable[[ClientId, int], Words | None]


def secret(root: SecretBytes, *purpose: str | int) -> SecretBytes:
    """32 bytes for one purpose in the simulation whose seed is `root`."""
    return derive(root, Label.SIMULATION, *purpose)


def noise_seed(root: SecretBytes, client: int, round_number: int) -> SecretBytes:
    """A client's seed for the noise of one round."""
    return secret(root, "noise", client, round_number)


def signing_key(root: SecretBytes, *purpose: str | int) -> SigningKey:
    """A signing key for one purpose."""
    return SigningKey.from_seed(secret(root, *purpose))


def client_sessions(
    root: SecretBytes, ids: Iterable[ClientId], policy: ClientPolicy
) -> dict[ClientId, ClientSession]:
    """A session for each client, the same ones in whatever process they are made."""
    return {
        v: ClientSession(
            me=v,
            identity=signing_key(root, "identity", v),
            policy=policy,
            entropy=secret(root, "entropy", v),
        )
        for v in ids
    }


class LocalClients:
    """Clients in this process.

    Args:
        root: The simulation's seed.
        sessions: Theirs.
        meter: Where their seconds are counted.
    """

    def __init__(self, root: SecretBytes, sessions: dict[ClientId, ClientSession], meter: Meter) -> None:
        self._root, self.sessions, self._meter = root, sessions, meter

    def deliver(
        self, letters: Sequence[Letter], *, phase: str, now: float, contribute: MakeInput
    ) -> Iterator[tuple[ClientId, list[Output]]]:
        """Deliver server messages one by one and tell what each client says.

        Args:
            letters: Receiver and message.
            phase: Under which seconds are counted.
            now: The simulation's clock.
            contribute: Called when a client asks for its input.

        Raises:
            LocalError: What a client's session raised.
        """
        for client, data in letters:
            session = self.sessions[client]
            with self._meter.client(client, phase):
                outputs = session.receive(data, now)
            asked = next((output for output in outputs if isinstance(output, NeedInput)), None)
            if asked is not None:
                vector, outputs = contribute(client, asked.round), []
                if vector is not None:
                    seed = noise_seed(self._root, client, asked.round)
                    with self._meter.client(client, phase):
                        outputs = session.submit(vector, now, round=asked.round, noise_seed=seed)
            yield client, outputs

    def close(self) -> None:
        """Nothing to end."""
