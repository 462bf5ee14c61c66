"""What a malicious server computes from what it saw, with the product's own arithmetic."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from protocols.context import ClientId, RoundContext, model_digest
from protocols.pairwise.client import AwaitSurvivors, Bound
from protocols.pairwise.schedule import list_sealing_key, pair_mask, self_mask, sharing_digest, tagger
from secagg.kdf import Label
from secagg.masks import Mask, apply_masks
from secagg.ring import Words
from secagg.sealing import open_sealed
from secagg.secret import SecretBytes
from secagg.shamir import combine

from .table import Table, View

Shares = dict[int, bytes]  # by share index


def context_of(table: Table, view: View, *, model: bytes = b"model") -> RoundContext:
    """The round's context, as clients with this model have it."""
    public = view.context
    return RoundContext(
        public.session, public.round, public.config_hash, table.graph().digest, model_digest(model)
    )


def answered_shares(table: Table, view: View, dealer: ClientId) -> tuple[Shares, Shares]:
    """All shares of one dealer's two secrets that answers gave away: of b, of rho."""
    of_self, of_list = Shares(), Shares()
    for holder, answer in view.answers.items():
        held = [v for v in table.holders(holder) if v in view.shares]
        if dealer in held:
            found = of_list if dealer in view.dropped[holder] else of_self
            found[table.holders(dealer).index(holder) + 1] = answer.shares[held.index(dealer)]
    return of_self, of_list


def corrupt_shares(table: Table, corrupt: Iterable[ClientId], dealer: ClientId) -> tuple[Shares, Shares]:
    """What corrupt clients hold of a dealer: read while they await the survivor set."""
    of_self, of_list = Shares(), Shares()
    holders = table.holders(dealer)
    for holder in corrupt:
        if holder in holders:
            held = table.corrupt(holder, AwaitSurvivors).held[dealer]
            of_self[holders.index(holder) + 1] = held.of_self_mask.reveal()
            of_list[holders.index(holder) + 1] = held.of_list_key.reveal()
    return of_self, of_list


def rebuild(shares: Shares, threshold: int) -> bytes | None:
    """A secret, if there are enough shares."""
    chosen = sorted(shares)[:threshold]
    if len(chosen) < threshold:
        return None
    return combine(chosen, [shares[index] for index in chosen])


def opened_secrets(
    table: Table, view: View, dealers: Iterable[ClientId], *, dropped: bool
) -> dict[ClientId, bytes]:
    """The secrets of these dealers that enough answers open: rho of those said to have dropped, else b."""
    found = {v: rebuild(answered_shares(table, view, v)[dropped], table.config.threshold) for v in dealers}
    return {v: secret for v, secret in found.items() if secret is not None}


def unmask_one(
    table: Table, view: View, victim: ClientId, self_seed: bytes, root: bytes, *, model: bytes = b"model"
) -> Words:
    """x_u from y_u, once both secrets of one client are known."""
    context = context_of(table, view, model=model)
    sharing = _sharing(table, view, context)
    own = self_mask(SecretBytes(self_seed), victim, context=context, sharing=sharing, config=table.config)
    pairs = _pair_masks(table, view, context, victim, root, list(view.shares))
    return _without(table, view.masked[victim], [own, *pairs])


def without_pair_masks(table: Table, view: View, client: ClientId, root: bytes, masked: Words) -> Words:
    """What is left of a client's masked vector once its list of pair seeds is open: x_u and the self mask."""
    pairs = _pair_masks(table, view, context_of(table, view), client, root, list(view.shares))
    return _without(table, masked, pairs)


def opened_vector(
    table: Table, view: View, victim: ClientId, of_self: Shares, of_list: Shares
) -> Words | None:
    """x_u, if these shares open both secrets of one client."""
    self_seed = rebuild(of_self, table.config.threshold)
    root = rebuild(of_list, table.config.threshold)
    if self_seed is None or root is None:
        return None
    return unmask_one(table, view, victim, self_seed, root)


def unmask_if_open(table: Table, view: View, victim: ClientId, of_self: Shares, of_list: Shares) -> Words:
    """x_u if these shares open both secrets of one client; else y_u, which is all there is."""
    found = opened_vector(table, view, victim, of_self, of_list)
    return view.masked[victim] if found is None else found


def open_sum(
    table: Table,
    view: View,
    survivors: Sequence[ClientId],
    self_seeds: Mapping[ClientId, bytes],
    roots: Mapping[ClientId, bytes],
) -> Words:
    """The sum over any set, once b of its members and rho of whoever else they masked with are known."""
    context, config = context_of(table, view), table.config
    sharing = _sharing(table, view, context)
    total, ring = config.ring.zeros(config.words), config.ring
    masks = []
    for u in survivors:
        np.add(total, view.masked[u], out=total)
        own = self_mask(SecretBytes(self_seeds[u]), u, context=context, sharing=sharing, config=config)
        masks.append(Mask(own.key, -1))
    for v, root in roots.items():
        masks += _pair_masks(table, view, context, v, root, survivors)
    apply_masks(total, masks, ring=ring)
    return ring.reduce(total)


def opened_sum(
    table: Table, view: View, survivors: Sequence[ClientId], dropped: Sequence[ClientId] = ()
) -> Words | None:
    """The sum over a set, if answers open b of all its members and rho of whoever dropped beside them."""
    seeds = opened_secrets(table, view, survivors, dropped=False)
    roots = opened_secrets(table, view, dropped, dropped=True)
    if len(seeds) < len(survivors) or len(roots) < len(dropped):
        return None
    return open_sum(table, view, survivors, seeds, roots)


def plain_sum(table: Table, vectors: Mapping[ClientId, Words], clients: Iterable[ClientId]) -> Words:
    """What the sum of some vectors is, in ring words: to hold an opened one against."""
    total = table.config.ring.zeros(table.config.words)
    for u in clients:
        np.add(total, vectors[u], out=total)
    return table.config.ring.reduce(total)


def _without(table: Table, masked: Words, masks: Iterable[Mask]) -> Words:
    """A vector from which its sender's masks are taken off again."""
    vector, ring = masked.copy(), table.config.ring
    apply_masks(vector, [Mask(m.key, -m.sign) for m in masks], ring=ring)
    return ring.reduce(vector)


def _sharing(table: Table, view: View, context: RoundContext) -> bytes:
    return sharing_digest(context, [v for v in table.ids if v not in view.shares])


def _pair_masks(
    table: Table,
    view: View,
    context: RoundContext,
    dealer: ClientId,
    root: bytes,
    peers: Sequence[ClientId],
) -> list[Mask]:
    """The dealer's own pair masks with some peers, out of its list."""
    key = list_sealing_key(SecretBytes(root), context, dealer)
    seeds = open_sealed(key, view.shares[dealer].seed_list, context=b"")
    mask = pair_mask(context, dealer, sharing=_sharing(table, view, context), config=table.config)
    neighbours = [v for v in table.holders(dealer) if v != dealer]
    return [
        mask(v, SecretBytes(seeds[32 * place : 32 * place + 32]))
        for place, v in enumerate(neighbours)
        if v in peers
    ]


def confirm(table: Table, sender: ClientId, receiver: ClientId, label: Label) -> bytes:
    """A corrupt client's tag or certificate for whatever view its receiver was given by the server."""
    told = table.corrupt(receiver, Bound)  # its context and its sets, which the server chose
    return tagger(label, told.context, told.view)(table.seat_of(sender).tag_keys[receiver].sending)
