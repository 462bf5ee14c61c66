"""Whether the sweeps of the catalogue's A35 see a boundary that is off by a tick."""

from collections.abc import Callable

import pytest

from protocols.audit.attacks import a35_time as a35
from protocols.audit.moments import Sweep
from protocols.client_session import ClientSession
from protocols.server_session import ServerSession

SWEEPS: dict[Callable[[], Sweep], int] = {
    a35.expiry: 3 * 2,
    a35.patience: 2 * 6,  # before the cohort, the opening, the deal, the input, the survivors, the tags
    # For five clients, before each message or input: those that follow and are no opening.
    a35.too_early: 5 * (6 + 6 + 5 + 5 + 4 + 3 + 3 + 2 + 2 + 1),
    a35.skipped: 2,
    a35.deadlines: 5 * 2,
    a35.ahead_of_the_round: 2 * 4 + 1,
}


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.__name__)
def test_every_boundary_is_where_it_should_be(sweep: Callable[[], Sweep]) -> None:
    assert sweep() == Sweep(SWEEPS[sweep], 0)


@pytest.mark.parametrize("ticks", [-1, 1])
def test_teeth_a_client_whose_clock_is_a_tick_off_is_seen(
    monkeypatch: pytest.MonkeyPatch, ticks: int
) -> None:
    receive, tick = ClientSession.receive, ClientSession.tick

    def off(now: float) -> float:
        return a35.before(now) if ticks < 0 else a35.after(now)

    monkeypatch.setattr(ClientSession, "receive", lambda self, data, now: receive(self, data, off(now)))
    assert a35.expiry().taken == 2  # the invitation and the opening, on one side
    monkeypatch.setattr(ClientSession, "receive", receive)
    monkeypatch.setattr(ClientSession, "tick", lambda self, now: tick(self, off(now)))
    assert a35.patience().taken == 4


def test_teeth_a_server_whose_clock_is_a_tick_ahead_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    tick = ServerSession.tick
    monkeypatch.setattr(ServerSession, "tick", lambda self, now: tick(self, a35.after(now)))
    assert a35.deadlines() == Sweep(10, 10)


def test_teeth_one_round_more_or_less_may_be_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in (a35.MAX_SKIPPED_ROUNDS - 1, a35.MAX_SKIPPED_ROUNDS + 1):
        monkeypatch.setattr("protocols.client_session.MAX_SKIPPED_ROUNDS", limit)
        assert a35.skipped().taken == 1
