"""Sums under encryption are the sums of masks alone: dropouts, weights, noise, sparse graphs, many rounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import RoundConfig, Segment, SkellamNoise, ThresholdError, simulate, wire
from protocols.audit.watch import watching
from protocols.messages import Decrypt, Encrypted
from protocols.outputs import Finished
from protocols.simulation import PHASES, Federation
from secagg.encrypted.ciphertexts import EncryptedSum, decrypt_residues, unsafe_decrypt
from secagg.errors import CapacityError
from tests.protocols.encrypted.scenes import config_for, custodian_of, expected, give, spied, vectors

pytest.importorskip("tenseal", reason="encryption needs tenseal")
BOTH = ("bfv-masked", "ckks")
SPARSE = {"clients": 16, "corrupt": 1, "degree": 8, "minimum_survivors": 12, "value_bits": 8}


@pytest.mark.parametrize("protection", BOTH)
@settings(deadline=None, max_examples=8)
@given(data=st.data())
def test_a_sum_is_that_of_the_survivors_whoever_vanishes_when(protection: str, data: st.DataObject) -> None:
    config = config_for(protection, clients=7, length=data.draw(st.integers(1, 9)))
    drop = data.draw(st.dictionaries(st.integers(0, 6), st.sampled_from(PHASES), max_size=2))
    of = vectors(config, seed=data.draw(st.integers(0, 99)))
    result = Federation(config, seed=1).round(give(of), drop=drop)
    np.testing.assert_array_equal(result.total, expected(config, of, result.survivors))
    gone = ("keys", "shares", "masked")
    assert result.survivors == tuple(v for v in range(7) if drop.get(v) not in gone)
    assert result.exact
    assert 0 < result.sum_error < 0.4 if protection == "ckks" else result.sum_error == 0


@pytest.mark.parametrize("protection", BOTH)
def test_weights_segments_and_noise_travel_inside(protection: str) -> None:
    config = config_for(
        protection,
        length=4,
        weight_bound=3,
        segments=[Segment("counts", length=2, clip=7.0, value_bits=4, weighted=False)],
    )
    updates = {v: np.full(4, 0.1 * v) for v in range(6)}
    segments = {v: {"counts": np.array([1.0, float(v)])} for v in range(6)}
    weights = {v: v % 3 + 1 for v in range(6)}
    given = {"weights": weights, "segments": segments, "seed": 3, "drop": {2: "masked"}}
    result, plain = simulate(config, updates, **given), simulate(config.under_masks(), updates, **given)
    np.testing.assert_array_equal(result.total, plain.total)
    assert (result.weight, result.segments["counts"][0]) == (9, 5.0)


@pytest.mark.parametrize("protection", BOTH)
def test_noise_is_in_the_plaintext_and_the_same_is_claimed_of_it(protection: str) -> None:
    noise = SkellamNoise(multiplier=0.5)
    config = config_for(protection, length=300, rotation=True, rounding="stochastic", noise=noise)
    plain = config.under_masks()
    assert (config.local_variance, config.layout) == (plain.local_variance, plain.layout)
    result = simulate(config, {v: np.zeros(300) for v in range(6)}, seed=3)
    assert result.exact
    assert result.noise_variance == 6 * config.local_variance
    assert np.var(result.total) > 0.6 * result.noise_variance


def test_a_sparse_graph_carries_masked_encryption_over_many_rounds() -> None:
    config = config_for("bfv-masked", **SPARSE)
    federation = Federation(config, seed=2)
    for number, drop in enumerate(({}, {3: "masked"}, {5: "unmask", 0: "shares"}, {3: "consistency"})):
        of = vectors(config, seed=number)
        result = federation.round(give(of), drop=drop, model=bytes([number]))
        np.testing.assert_array_equal(result.total, expected(config, of, result.survivors))


@pytest.mark.parametrize("protection", BOTH)
def test_too_few_open_nothing_and_the_next_round_is_a_new_one(protection: str) -> None:
    config = config_for(protection)
    federation, of = Federation(config, seed=1), vectors(config)
    with pytest.raises(ThresholdError):
        federation.round(give(of), drop=dict.fromkeys(range(4), "masked"))
    assert federation.round(give(of)).exact


@pytest.mark.parametrize("protection", BOTH)
def test_clients_in_processes_give_the_same_sum(protection: str) -> None:
    config = config_for(protection)
    of = vectors(config)
    with Federation(config, seed=1, processes=2) as federation:
        assert federation.round(give(of), drop={1: "masked"}).exact


def test_the_server_s_session_never_gives_a_sum() -> None:
    config = config_for("bfv-masked")
    with watching() as record:
        federation = Federation(config, seed=1)
        given: list[object] = []
        advance = federation.server._close

        def close(now: float):
            outputs = advance(now)
            given.extend(outputs)
            return outputs

        federation.server._close = close
        result = federation.round(give(vectors(config)))
    assert not any(isinstance(output, Finished) for output in given)
    assert record.to_server
    assert result.exact


def sent_by(protection: str, **fields) -> tuple[RoundConfig, dict, dict, object, object]:
    """A round's config, vectors, ciphertexts by client, and its secret key, which only this test looks at."""
    config = config_for(protection, **fields)
    federation, of = Federation(config, seed=1), vectors(config)
    secret = None

    def look(body, envelope):
        nonlocal secret
        if isinstance(body, Decrypt):
            secret = custodian_of(federation)._state
        return

    with watching() as record, spied(federation, look):
        federation.round(give(of))
    sent = {
        client: wire.decode_body(wire.decode_envelope(data), Encrypted).chunks
        for client, data in record.sent("encrypted", 1).items()
    }
    return config, of, sent, secret.secret, secret.encryption


@pytest.mark.parametrize("subset", [(0,), (0, 1, 2), (1, 2, 3, 4, 5), (0, 1, 2, 3, 4, 5)])
def test_decrypting_any_subset_of_masked_ciphertexts_gives_uniform_garbage(subset: tuple[int, ...]) -> None:
    """Self masks stay in until shares take them out: not even all vectors together open."""
    config, of, sent, secret, encryption = sent_by("bfv-masked", length=30_000)
    packing, total = encryption.packing, EncryptedSum(encryption.key, chunks=encryption.config.cipher.chunks)
    for client in subset:
        total.add(sent[client])
    slots = packing.slots(config.words)
    opened = decrypt_residues(tuple(total.chunks()), key=secret, length=slots)
    with pytest.raises(CapacityError):
        packing.unpack(opened, config.words)
    counts, _ = np.histogram(opened, bins=64, range=(0, packing.modulus))
    chi = float(((counts - slots / 64) ** 2 / (slots / 64)).sum())
    assert chi < 63 + 8 * np.sqrt(2 * 63)  # uniform: 63 in the mean
    truth = packing.pack(expected(config, of, subset))
    assert np.mean(truth == opened) < 0.01


def test_teeth_what_is_encrypted_under_ckks_opens_one_by_one() -> None:
    """The stated limit: without masks whoever holds the key reads one client's vector."""
    config, of, sent, secret, _ = sent_by("ckks")
    opened = unsafe_decrypt(sent[2], key=secret, length=config.words)
    np.testing.assert_allclose(opened, config.ring.centre(of[2]), atol=0.1)
