"""Clients on machines that can be killed: a durable session, its store on disk, the shell between them."""

from collections.abc import Collection
from pathlib import Path
from typing import cast

from protocols.client_session import ClientSession
from protocols.config import RoundConfig
from protocols.context import ClientId
from protocols.durable import DurableClient
from protocols.noise import Seed
from protocols.outputs import Output, Persist, SavedState
from protocols.policy import ClientPolicy
from protocols.store import StateStore
from secagg.keys import SigningKey
from secagg.ring import Words
from secagg.secret import SecretBytes

from .table import Table


class Machine:
    """One client's. It acts on outputs in their order, so that a state is committed before what follows it.

    Args:
        process: The durable session.
        me: The client.
        identity: Its key.
        policy: Its own.
        path: Of its store.
    """

    def __init__(
        self, process: DurableClient, *, me: ClientId, identity: SigningKey, policy: ClientPolicy, path: Path
    ) -> None:
        self._process, self._me, self._identity, self._policy = process, me, identity, policy
        self._path, self._store = path, StateStore.open(path)

    @property
    def over(self) -> bool:
        """As the session says."""
        return self._process.over

    def receive(self, data: bytes, now: float) -> list[Output]:
        """What leaves the machine for a message.

        Raises:
            StateConflictError: If another process went on from the same state.
        """
        return self._act(self._process.receive(data, now))

    def submit(
        self, vector: Words, now: float, *, round: int | None = None, noise_seed: Seed | None = None
    ) -> list[Output]:
        """What leaves the machine for an input.

        Raises:
            SessionOverError: If none is awaited.
            StateConflictError: If another process went on from the same state.
        """
        return self._act(self._process.submit(vector, now, round=round, noise_seed=noise_seed))

    def kill(self) -> None:
        """The process ends where it is. Another one goes on from what the store has."""
        self._process = self._restored()

    def fork(self) -> "Machine":
        """Another process beside this one, from the same state of the same store."""
        return Machine(
            self._restored(), me=self._me, identity=self._identity, policy=self._policy, path=self._path
        )

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def _restored(self) -> DurableClient:
        return DurableClient.restore(
            self._store.load() or b"", me=self._me, identity=self._identity, policy=self._policy
        )

    def _act(self, outputs: list[Output]) -> list[Output]:
        for output in outputs:
            if isinstance(output, Persist) and isinstance(output.record, SavedState):
                self._store.commit(output.record)
        return [output for output in outputs if not isinstance(output, Persist)]


class MachineTable(Table):
    """A table some of whose clients are on machines.

    Args:
        config: The round's config.
        folder: Where their stores are.
        session: Distinguishes sessions.
        machines: Which clients; all unless given.
    """

    def __init__(
        self,
        config: RoundConfig,
        folder: Path,
        *,
        session: int = 0,
        machines: Collection[ClientId] | None = None,
    ) -> None:
        self._folder, self._chosen = folder, machines
        self.machines: dict[ClientId, Machine] = {}
        super().__init__(config, session=session)

    def open_client(self, client: ClientId, entropy: SecretBytes | None = None) -> ClientSession:
        """A client's session, on a machine where it is one of those."""
        opened = super().open_client(client, entropy)
        if self._chosen is not None and client not in self._chosen:
            return opened
        identity, policy = self.identities[client], self.policy
        self.machines[client] = Machine(
            DurableClient(opened, me=client, identity=identity, policy=policy),
            me=client,
            identity=identity,
            policy=policy,
            path=self._folder / f"{self._session}-{client}.sqlite",
        )
        return cast("ClientSession", self.machines[client])

    def kill(self) -> None:
        """All machines at once."""
        for machine in self.machines.values():
            machine.kill()

    def close(self) -> None:
        """Close the stores."""
        for machine in self.machines.values():
            machine.close()
