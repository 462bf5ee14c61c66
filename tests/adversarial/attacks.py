"""What a malicious server computes from what it saw, with the product's own arithmetic."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from protocols.context import ClientId, RoundContext, model_digest, set_digest
from protocols.pairwise.schedule import mask_key_pair, pair_mask, roster_digest, self_mask
from secagg.kdf import Label
from secagg.masks import Mask, apply_masks
from secagg.ring import Words
from secagg.secret import SecretBytes
from secagg.shamir import combine
from tests.protocols.harness import Table, View

Shares = dict[int, bytes]  # by share index


def context_of(table: Table, view: View, *, model: bytes = b"model") -> RoundContext:
    """The round's context from the roster on, as clients with this model have it."""
    context = RoundContext(
        view.context.session, view.context.round, view.context.config_hash, model_digest(model)
    )
    cohort = table.clients[table.ids[0]]._session.cohort  # public: the server sent it
    return context.with_roster(roster_digest(context, cohort, view.mask_keys))


def answered_shares(view: View, dealer: ClientId) -> tuple[Shares, Shares]:
    """All shares of one dealer's two secrets that answers gave away: of b, of sigma."""
    of_self, of_key = {}, {}
    sharing = sorted(view.shares)
    for holder, answer in view.answers.items():
        share = answer.shares[sharing.index(dealer)]
        (of_key if dealer in view.dropped[holder] else of_self)[holder + 1] = share
    return of_self, of_key


def rebuild(shares: Shares, threshold: int) -> bytes | None:
    """A secret, if there are enough shares."""
    chosen = sorted(shares)[:threshold]
    if len(chosen) < threshold:
        return None
    return combine(chosen, [shares[index] for index in chosen])


def sharing_digest(view: View, context: RoundContext) -> bytes:
    return set_digest(Label.SHARING_SET, context, tuple(sorted(view.shares)))


def unmask_one(
    table: Table, view: View, victim: ClientId, self_seed: bytes, key_seed: bytes, *, model: bytes = b"model"
) -> Words:
    """x_u from y_u, once both secrets of one client are known."""
    context = context_of(table, view, model=model)
    sharing = sharing_digest(view, context)
    masks = [self_mask(SecretBytes(self_seed), victim, context=context, sharing=sharing, config=table.config)]
    key = mask_key_pair(SecretBytes(key_seed))
    for peer in view.shares:
        if peer != victim:
            masks.append(
                pair_mask(
                    key,
                    victim,
                    peer,
                    view.mask_keys[peer],
                    context=context,
                    sharing=sharing,
                    config=table.config,
                )
            )
    vector = view.masked[victim].copy()
    apply_masks(vector, [Mask(m.key, -m.sign) for m in masks], ring=table.config.ring)
    return table.config.ring.reduce(vector)


def open_sum(
    table: Table,
    view: View,
    survivors: Sequence[ClientId],
    self_seeds: Mapping[ClientId, bytes],
    key_seeds: Mapping[ClientId, bytes],
) -> Words:
    """The sum over any set, once b of its members and sigma of everybody else in U2 are known."""
    context = context_of(table, view)
    sharing = sharing_digest(view, context)
    total, ring = table.config.ring.zeros(table.config.length), table.config.ring
    masks = []
    for u in survivors:
        np.add(total, view.masked[u], out=total)
        own = self_mask(SecretBytes(self_seeds[u]), u, context=context, sharing=sharing, config=table.config)
        masks.append(Mask(own.key, -1))
    for v in set(view.shares) - set(survivors):
        key = mask_key_pair(SecretBytes(key_seeds[v]))
        masks += [
            pair_mask(key, v, u, view.mask_keys[u], context=context, sharing=sharing, config=table.config)
            for u in survivors
        ]
    apply_masks(total, masks, ring=ring)
    return ring.reduce(total)


def looks_uniform(words: Words, bits: int) -> bool:
    """Whether ring words could be uniform: mean of the top bits, and no word near zero too often."""
    values = words.astype(np.float64) / 2.0**bits
    spread = abs(values.mean() - 0.5) * np.sqrt(12 * len(values))
    near_zero = np.mean(np.minimum(values, 1 - values) < 1 / 64)
    return bool(spread < 5 and near_zero < 1 / 32 + 5 * np.sqrt(1 / 32 / len(values)))


def equal_words(a: Words, b: Words) -> float:
    """Fraction of equal words."""
    return float(np.mean(a == b))


def corrupt_shares(table: Table, corrupt: Iterable[ClientId], dealer: ClientId) -> tuple[Shares, Shares]:
    """What corrupt clients hold of a dealer: read while they await the survivor set."""
    of_self, of_key = {}, {}
    for holder in corrupt:
        held = table.corrupt(holder)._round.held[dealer]
        of_self[holder + 1] = held.of_self_mask.reveal()
        of_key[holder + 1] = held.of_mask_key.reveal()
    return of_self, of_key
