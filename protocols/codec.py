"""The states of sessions as bytes and back, by their own annotations: no line per state.

What a state holds is what is written, secrets included: whoever keeps the bytes seals them (`saved`).
Nothing here may write an identity or a policy, or make an object of a type that no state declares.
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Final, Literal, NewType, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
from numpy.typing import NDArray

from secagg.errors import SecaggError
from secagg.keys import AgreementKey
from secagg.ring import Words
from secagg.secret import SecretBytes

from .config import RoundConfig
from .errors import PROTOCOL_ERRORS, Code, LocalError, ProtocolError, StateError
from .pairwise.place import Place
from .pairwise.unmasking import Round

Table = Place | Round
FindTable = Callable[[bytes], Table]
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class _Codec:
    """How one type is written as what MessagePack knows, and read."""

    write: Callable[[Any], Any]
    read: Callable[[Any, FindTable], Any]


def no_table(_: bytes) -> Table:
    """For what is read outside a round."""
    raise StateError("a round's state where no round can be open: the saved state is of another version")


def to_bytes(kind: type[_Value], value: _Value) -> bytes:
    """Canonical encoding of a value of a declared type."""
    return msgspec.msgpack.encode(_codec(kind).write(value))


def from_bytes(kind: type[_Value], data: bytes, *, table: FindTable = no_table) -> _Value:
    """Inverse of `to_bytes`.

    Args:
        kind: The declared type.
        data: Its encoding.
        table: Gives what does not change during a round, from its config's hash; it is not written.

    Raises:
        StateError: If the bytes are not the canonical encoding of such a value.
    """
    codec = _codec(kind)
    try:
        value = cast("_Value", codec.read(msgspec.msgpack.decode(data), table))
        canonical = msgspec.msgpack.encode(codec.write(value)) == data
    except (
        msgspec.MsgspecError,
        SecaggError,
        LocalError,
        ProtocolError,
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise StateError(f"a saved state holds no {_name(kind)} of this version: {error}") from error
    if not canonical:
        raise StateError(f"the encoding of a saved {_name(kind)} is not canonical")
    return value


def _make(kind: Any) -> _Codec:
    kind = kind.__supertype__ if isinstance(kind, NewType) else kind
    if kind in _FOREIGN:
        return _FOREIGN[kind]
    if _is_native(kind):
        return _Codec(lambda value: value, lambda plain, _: msgspec.convert(plain, kind))
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _union(arguments)
    if origin is tuple and arguments[1:] == (...,):
        return _sequence(_codec(arguments[0]), tuple)
    if origin in (set, frozenset, AbstractSet):
        return _set(_codec(arguments[0]), set if origin is set else frozenset)
    if origin in (dict, Mapping):
        return _mapping(_codec(arguments[0]), _codec(arguments[1]))
    if is_dataclass(kind):
        return _record(kind)
    raise TypeError(f"no state may hold a {kind!r}")


def _is_native(kind: Any) -> bool:
    """Whether MessagePack has it as it is. Floats are not: a caller's integer must become one."""
    kind = kind.__supertype__ if isinstance(kind, NewType) else kind
    if isinstance(kind, type) and get_origin(kind) is None:
        return kind in (int, str, bytes, bool) or issubclass(kind, msgspec.Struct)
    return get_origin(kind) is Literal or (
        get_origin(kind) in (tuple, dict, Mapping)
        and all(argument is ... or _is_native(argument) for argument in get_args(kind))
    )


def _sequence(item: _Codec, make: Callable[[list[Any]], Any]) -> _Codec:
    return _Codec(
        lambda value: [item.write(entry) for entry in value],
        lambda plain, table: make([item.read(entry, table) for entry in plain]),
    )


def _set(item: _Codec, make: Callable[[list[Any]], Any]) -> _Codec:
    """In order of what is written, so that one set has one encoding."""
    listed = _sequence(item, make)
    return _Codec(lambda value: sorted(listed.write(value)), listed.read)


def _mapping(key: _Codec, entry: _Codec) -> _Codec:
    """In the order it has, which means something: rosters and cohorts ascend."""
    return _Codec(
        lambda value: {key.write(k): entry.write(v) for k, v in value.items()},
        lambda plain, table: {key.read(k, table): entry.read(v, table) for k, v in plain.items()},
    )


def _union(kinds: tuple[Any, ...]) -> _Codec:
    """The name of the alternative, then the value; nil for none."""
    codecs = {_name(kind): (kind, _codec(kind)) for kind in kinds if kind is not type(None)}

    def write(value: Any) -> Any:
        if value is None:
            return None
        name = next(name for name, (kind, _) in codecs.items() if isinstance(value, get_origin(kind) or kind))
        return [name, codecs[name][1].write(value)]

    def read(plain: Any, table: FindTable) -> Any:
        if plain is None and type(None) in kinds:
            return None
        name, value = plain
        return codecs[name][1].read(value, table)

    return _Codec(write, read)


def _record(kind: Any) -> _Codec:
    """The fields a dataclass is made from, in order; what it derives it derives again."""
    hints = get_type_hints(kind)
    codecs = {field.name: _codec(hints[field.name]) for field in fields(kind) if field.init}

    def read(plain: Any, table: FindTable) -> Any:
        pairs = zip(codecs.items(), plain, strict=True)
        return kind(**{name: codec.read(entry, table) for (name, codec), entry in pairs})

    return _Codec(lambda value: [codec.write(getattr(value, name)) for name, codec in codecs.items()], read)


def _write_array(array: NDArray[Any]) -> list[Any]:
    return [array.dtype.str, array.tobytes()]


def _read_array(plain: Any, _: FindTable) -> NDArray[Any]:
    name, data = plain
    if name not in ("<u2", "<u4", "<u8", "<i8", "<f8"):
        raise StateError(f"no state holds an array of {name!r:.20}")
    return np.frombuffer(data, name).copy()


def _write_error(error: ProtocolError) -> list[Any]:
    return [type(error).__name__, error.code, error.message, error.phase, error.suspects]


def _read_error(plain: Any, _: FindTable) -> ProtocolError:
    name, code, message, phase, suspects = plain
    return PROTOCOL_ERRORS[name](Code(code), message, phase=phase, suspects=suspects)


def _write_table(table: Table) -> bytes:
    return table.config.hash


_ARRAY: Final = _Codec(_write_array, _read_array)
_TABLE: Final = _Codec(_write_table, lambda plain, table: table(plain))
# What annotations alone do not say how to write.
_FOREIGN: Final[dict[Any, _Codec]] = {
    float: _Codec(float, lambda plain, _: float(plain)),
    SecretBytes: _Codec(SecretBytes.reveal, lambda plain, _: SecretBytes(plain)),
    AgreementKey: _Codec(
        lambda key: key.reveal().reveal(), lambda plain, _: AgreementKey.from_seed(SecretBytes(plain))
    ),
    RoundConfig: _Codec(RoundConfig.to_bytes, lambda plain, _: RoundConfig.from_bytes(plain)),
    ProtocolError: _Codec(_write_error, _read_error),
    Words: _ARRAY,
    NDArray[np.int64]: _ARRAY,
    NDArray[np.float64]: _ARRAY,
    Place: _TABLE,
    Round: _TABLE,
}

_codec: Final[Callable[[Any], _Codec]] = cache(_make)


def _name(kind: Any) -> str:
    return str(getattr(kind, "__name__", "state"))
