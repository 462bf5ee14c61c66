"""kill -9 at every durable write of either role: the same sum, one survivor set, one answer."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # dozens of rounds among real processes
ROOT = Path(__file__).resolve().parents[2]
SERVER = (1 << 32) - 1
CLIENTS = {"complete": 4, "sparse": 10}
# A client: join, cohort, open, deal, input, survivors, tags; on a sparse graph a witness has certified too.
# The server: invitation, cohort, open, and four phases that end; on a sparse graph five.
WRITES = {"complete": range(1, 8), "sparse": range(1, 9)}
# A sparse round has more processes: what it shares with a complete one is killed there.
KILLED = {"complete": WRITES["complete"], "sparse": range(6, 9)}

SPARSE_SERVER = pytest.param("sparse", -1, marks=pytest.mark.exhaustive)  # what it adds, the witness sees too
PARTIES = [("complete", -1), ("complete", 3), SPARSE_SERVER, ("sparse", "witness")]


def run(directory: Path, graph: str, cases: list[dict]) -> list[dict]:
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "tests" / "e2e" / "killed_parties.py"),
            str(directory),
            graph,
            json.dumps(cases),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def second_thoughts(wire: list[list]) -> list[tuple]:
    """Where one party said two different things in one place of one round."""
    said = defaultdict(set)
    for session, round_number, sender, kind, to, digest in wire:
        receiver = tuple(to) if sender == SERVER and kind in ("deal", "tags", "certified") else ()
        said[session, round_number, sender, kind, receiver].add(digest)
    return [place for place, digests in said.items() if len(digests) > 1]


@pytest.mark.parametrize(("graph", "party"), PARTIES)
def test_a_party_that_is_killed_at_any_write_comes_back_to_the_same_sum(
    graph: str, party: int | str, tmp_path: Path
) -> None:
    cases = [
        {"party": party, "write": w, "when": when} for w in KILLED[graph] for when in ("before", "after")
    ]
    results, everyone = run(tmp_path, graph, cases), tuple(range(CLIENTS[graph]))
    assert len(results) == len(cases)
    for result in results:
        told = {name: result[name] for name in ("write", "when")}
        assert result["deaths"] == 1, told
        assert result["aborted"] == [], told
        assert {(tuple(total), tuple(ids)) for total, ids in result["finished"]} == {
            ((sum(v + 1 for v in everyone),) * 3, everyone)
        }, told
        assert second_thoughts(result["wire"]) == [], told
        openings = {json.dumps(opening) for opening in result["opening"]}
        assert len(openings) == 1, told  # a ledger may be told twice, never of two sums


@pytest.mark.parametrize(("graph", "party"), PARTIES)
def test_an_undisturbed_round_writes_as_often_as_is_killed(
    graph: str, party: int | str, tmp_path: Path
) -> None:
    """So that no write is left out above: the one behind the last never comes."""
    (result,) = run(tmp_path, graph, [{"party": party, "write": WRITES[graph].stop, "when": "before"}])
    assert result["deaths"] == 0
    assert len(result["finished"]) == 1


def test_teeth_a_server_that_sends_before_it_commits_names_two_survivor_sets(tmp_path: Path) -> None:
    """Killed as it closes the masked phase, and one client is gone when it asks again."""
    case = {"party": -1, "write": 5, "when": "before", "silent": 1}
    kept, broken = run(tmp_path, "complete", [case, {**case, "send_first": True}])
    assert second_thoughts(kept["wire"]) == []
    assert kept["finished"] == [[[1 + 3 + 4] * 3, [0, 2, 3]]]
    assert {kind for _, _, _, kind, _ in second_thoughts(broken["wire"])} >= {"survivors"}
