"""Nested dicts, lists, tuples and plain values around tensors <-> names and a short JSON text. docs/CONTAINER.md has the grammar.

Tensors are numbered in the order in which they are met, and each gets a name: its path, joined by dots. The text holds only what
names and order do not say, so that a flat dict of tensors needs no text at all, and a state dict inside a checkpoint a few bytes.
Knows no torch: the caller says what a tensor is.
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from .errors import BadStructureError, InvalidArgumentError, LeafCountMismatchError, StructureTooDeepError
from .index import parse_json

MAX_DEPTH = 100

_INT64 = range(-(1 << 63), 1 << 63)  # larger integers are written in hexadecimal, which has no digit limit in Python
_HEX = re.compile(r"-?[0-9a-f]+")


class Flattened(NamedTuple):
    """`tensors[i]` belongs at the place called `names[i]`; `structure` (empty for a flat dict) tells `unflatten` all the rest."""

    names: list[str]
    tensors: list[Any]
    structure: bytes


def flatten(tree: Any, is_tensor: Callable[[Any], bool]) -> Flattened:
    """Take a tree apart: dicts with keys of type str, int, bool, float or None (subclasses come back as dict), lists, tuples
    (torch.Size comes back as tuple); as leaves tensors, int of any size, float, bool, None, str, bytes, complex.

    Names are the keys on the path joined by dots; the keys of a flat dict are used as they are. Where a path would get a name
    that another has already, `#2`, `#3`, ... is appended. A tensor that occurs twice is listed twice.
    Raises InvalidArgumentError, with the path, for any other type, a cycle, more than 100 levels, and a key that is not Unicode.
    """
    walk = _Flattener(is_tensor)
    described = walk.describe(tree, ())
    flat = described in (["d"], ["d", len(walk.names)])
    structure = b"" if flat else json.dumps(described, separators=(",", ":"), allow_nan=False).encode()
    return Flattened(list(walk.names), walk.tensors, structure)


def unflatten(structure: bytes, names: Sequence[str], tensors: Sequence[Any]) -> Any:
    """The tree that `flatten` took apart, with `tensors[i]` where the tensor called `names[i]` was.

    Raises BadStructureError, StructureTooDeepError or LeafCountMismatchError for a text that `flatten` cannot have written.
    """
    walk = _Unflattener(names, tensors)
    described = parse_json(structure, BadStructureError, "the structure") if structure else ["d", len(names)] if names else ["d"]
    tree = walk.build(described, ())
    if walk.next != len(names):
        raise LeafCountMismatchError(f"the structure has {walk.next} tensors, the index {len(names)}")
    return tree


def _key_text(key: Any) -> str:
    """How a key shows in a name."""
    if isinstance(key, str):
        return key
    return repr(key) if not isinstance(key, int) or key in _INT64 else f"{key:#x}"


def _shown(path: tuple[Any, ...]) -> str:
    return "".join(f"[{key!r}]" if not isinstance(key, int) or key in _INT64 else "[...]" for key in path)[:200] or "the root"


class _Flattener:
    def __init__(self, is_tensor: Callable[[Any], bool]) -> None:
        self.is_tensor = is_tensor
        self.names: dict[str, None] = {}
        self.tensors: list[Any] = []
        self.around: set[int] = set()  # ids of the containers around the current node

    def describe(self, node: Any, path: tuple[Any, ...]) -> Any:
        if self.is_tensor(node):
            self.add(node, path)
            return []
        if isinstance(node, dict):
            return self.inside(node, path, lambda: ["d", *self.items(node, path)])
        if type(node) is list:
            return self.inside(node, path, lambda: ["l", *self.elements(node, path)])
        if type(node) is tuple or (type(node).__module__, type(node).__name__) == ("torch", "Size"):
            return self.inside(node, path, lambda: ["t", *self.elements(node, path)])
        return _describe_leaf(node, path)

    def inside(self, node: Any, path: tuple[Any, ...], describe: Callable[[], list[Any]]) -> list[Any]:
        if id(node) in self.around:
            raise InvalidArgumentError(f"{_shown(path)} contains itself")
        if len(path) >= MAX_DEPTH:
            raise InvalidArgumentError(f"{_shown(path)} is nested more than {MAX_DEPTH} levels deep")
        self.around.add(id(node))
        described = describe()
        self.around.discard(id(node))
        return described

    def elements(self, node: Iterable[Any], path: tuple[Any, ...]) -> list[Any]:
        return [self.describe(value, (*path, number)) for number, value in enumerate(node)]

    def items(self, node: dict[Any, Any], path: tuple[Any, ...]) -> list[Any]:
        """The dict's values: a number for that many tensors whose names tell their keys, a pair of key and value for anything
        else."""
        items: list[Any] = []
        for key, value in node.items():
            if type(key) not in (str, int, bool, float, type(None)):
                raise InvalidArgumentError(
                    f"{_shown(path)} has a key of type {type(key).__name__}; str, int, bool, float, None can be saved"
                )
            if type(key) is int and key not in _INT64:
                raise InvalidArgumentError(f"{_shown(path)} has a key beyond 64 bits")
            described = self.describe(value, (*path, key))
            if described != [] or type(key) is not str or not self.is_natural((*path, key)):
                items.append([_describe_leaf(key, path), described])
            elif items and type(items[-1]) is int:
                items[-1] += 1
            else:
                items.append(1)
        return items

    def is_natural(self, path: tuple[Any, ...]) -> bool:
        """Whether the tensor added last could be given the name of its path."""
        return next(reversed(self.names)) == ".".join(map(_key_text, path))

    def add(self, tensor: Any, path: tuple[Any, ...]) -> None:
        base = name = ".".join(map(_key_text, path))
        try:
            name.encode()
        except UnicodeEncodeError as cause:
            raise InvalidArgumentError(f"the tensor at {_shown(path)} cannot be named: {cause}") from cause
        number = 2
        while name in self.names:
            name = f"{base}#{number}"
            number += 1
        self.names[name] = None
        self.tensors.append(tensor)


def _describe_leaf(node: Any, path: tuple[Any, ...]) -> Any:
    # Exact types: a subclass (an enum, a numpy scalar) would silently come back as something else.
    kind = type(node)
    if node is None or kind in (bool, str):
        return node
    if kind is int:
        return node if node in _INT64 else ["i", f"{node:x}"]
    if kind is float:
        return node if math.isfinite(node) else ["f", struct.pack(">d", node).hex()]
    if kind is complex:
        return ["c", _describe_leaf(node.real, path), _describe_leaf(node.imag, path)]
    if kind is bytes:
        return ["b", base64.b64encode(node).decode()]
    raise InvalidArgumentError(
        f"{_shown(path)} is a {kind.__module__}.{kind.__qualname__}, which cannot be saved; "
        "tensors, dict, list, tuple, int, float, bool, None, str, bytes and complex can"
    )


class _Unflattener:
    def __init__(self, names: Sequence[str], tensors: Sequence[Any]) -> None:
        self.names = names
        self.tensors = tensors
        self.next = 0

    def build(self, node: Any, path: tuple[Any, ...]) -> Any:
        if node == [] and type(node) is list:
            return self.take()[1]
        if type(node) is not list or node[0] not in ("d", "l", "t"):
            return _build_leaf(node)
        if len(path) >= MAX_DEPTH:
            raise StructureTooDeepError(f"the structure is nested more than {MAX_DEPTH} levels deep")
        if node[0] == "d":
            return self.build_dict(node[1:], path)
        values = [self.build(value, (*path, number)) for number, value in enumerate(node[1:])]
        return values if node[0] == "l" else tuple(values)

    def build_dict(self, items: list[Any], path: tuple[Any, ...]) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for item in items:
            if type(item) is int and item > 0:
                prefix = "".join(_key_text(key) + "." for key in path)
                for _ in range(item):
                    name, tensor = self.take()
                    if not name.startswith(prefix):
                        raise BadStructureError(f"tensor {name!r} is not where its name says")
                    _insert(result, name[len(prefix) :], tensor)
            elif type(item) is list and len(item) == 2:
                key = _build_leaf(item[0])
                if type(key) in (bytes, complex):
                    raise BadStructureError(f"a {type(key).__name__} is the key of a dict")
                if type(key) is int and key not in _INT64:  # any number of these can have the same hash
                    raise BadStructureError("a huge integer is the key of a dict")
                _insert(result, key, self.build(item[1], (*path, key)))
            else:
                raise BadStructureError("an item of a dict is neither a positive number nor a pair")
        return result

    def take(self) -> tuple[str, Any]:
        if self.next == len(self.names):
            raise LeafCountMismatchError(f"the structure has more tensors than the index, which has {len(self.names)}")
        self.next += 1
        return self.names[self.next - 1], self.tensors[self.next - 1]


def _insert(result: dict[Any, Any], key: Any, value: Any) -> None:
    if key in result:
        raise BadStructureError("a dict has the same key twice")
    result[key] = value


def _build_leaf(node: Any) -> Any:
    if node is None or type(node) in (bool, int, float, str):
        return node
    if type(node) is list and len(node) == 2 and type(node[1]) is str:
        return _build_tagged(*node)
    if type(node) is list and len(node) == 3 and node[0] == "c":
        return complex(*map(_build_float, node[1:]))
    raise BadStructureError("the structure holds something unknown")


def _build_float(node: Any) -> float:
    if type(node) is list and len(node) == 2 and type(node[1]) is str and node[0] == "f":
        return _build_tagged(*node)
    if type(node) is not float:
        raise BadStructureError("a part of a complex number is not a float")
    return node


def _build_tagged(tag: Any, text: str) -> Any:
    try:
        if tag == "i" and _HEX.fullmatch(text):
            return int(text, 16)
        if tag == "f" and len(text) == 16 and _HEX.fullmatch(text):
            return struct.unpack(">d", bytes.fromhex(text))[0]
        if tag == "b":
            return base64.b64decode(text, validate=True)
    except ValueError as cause:
        raise BadStructureError(f"a value of the structure is damaged: {cause}") from cause
    raise BadStructureError("the structure holds something unknown")
