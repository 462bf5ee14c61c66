"""A server's messages, altered as a lying server might: still well-formed, no longer true."""

from protocols import messages


def reversed_pair(entries: tuple, at: int) -> tuple:
    """Two neighbours change places."""
    changed = list(entries)
    at %= max(1, len(changed) - 1)
    changed[at : at + 2] = changed[at : at + 2][::-1]
    return tuple(changed)


def without(entries: tuple, at: int) -> tuple:
    return entries[: at % len(entries)] + entries[at % len(entries) + 1 :] if entries else entries


def reversed_tags(tags: bytes, at: int) -> bytes:
    """Two neighbours of a row of 16-byte tags change places."""
    return b"".join(reversed_pair(tuple(tags[i : i + 16] for i in range(0, len(tags), 16)), at))


def lie(body: messages.Body, way: int, at: int) -> messages.Body:
    """The body as a lying server would have it: `way` chooses the lie, `at` where."""
    match body:
        case messages.RoundOpen(model):
            return messages.RoundOpen(model + b"!")
        case messages.Cohort(members):
            return messages.Cohort((without, reversed_pair)[way % 2](members, at))
        case messages.Deal(missing, records, selves, lists):
            options = [
                (missing, reversed_pair(records, at), selves, lists),
                (missing, records, reversed_pair(selves, at), lists),
                (missing, records, selves, reversed_pair(lists, at)),
                (
                    tuple(sorted({*missing, at % 8})),
                    without(records, at),
                    without(selves, at),
                    without(lists, at),
                ),
                (missing, reversed_pair(records, at), reversed_pair(selves, at), reversed_pair(lists, at)),
            ]
            return messages.Deal(*options[way % 5])
        case messages.Survivors(dropped):
            options = [
                tuple(sorted({*dropped, at % 8})),
                without(dropped, at),
                tuple(sorted({at % 8, way % 8})),
            ]
            return messages.Survivors(options[way % 3])
        case messages.Tags(absent, tags) | messages.Certified(absent, tags):
            cut = 16 * (at % (len(tags) // 16 + 1))
            options = [
                (absent, reversed_tags(tags, at)),
                (tuple(sorted({*absent, at % 8})), tags[:cut] + tags[cut + 16 :]),
                (without(absent, at), tags[:16] + tags),
            ]
            return type(body)(*options[way % 3])
    return body
