"""Decoders as single small files: `write_decoder` makes one for an artifact, of decoder/source.py, with nothing in it that the artifact does not need."""

from __future__ import annotations

import ast
import io
import keyword
import os
import random
import re
import string
import tokenize
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import model as models
from .atomic import atomic_write, check_target
from .entries import DTYPES, torch_dtype
from .errors import CorruptError
from .model import CompressedModel
from .planes import same_bits

SOURCE = Path(__file__).resolve().parent / "decoder" / "source.py"
#: What keeps its name.
PUBLIC = ("load",)
_MARKS = ("has", "used", "one")
#: Functions that are not called for what they do but for what they return; `pop` empties lists that nothing else reads.
_PURE = ("enumerate", "iinfo", "len", "max", "min", "pop", "range", "unfold")
#: How often an exchange of names is tried: seconds, and 5 % of the bytes.
NAME_TRIALS = 30000
_UNLIMITED = 1 << 62


def write_decoder(artifact: str | os.PathLike[str] | bytes | CompressedModel, out_path: str | os.PathLike[str], *, verify: bool = True) -> int:
    """Writes a Python file that decodes `artifact` (a path, the bytes of a file, or a CompressedModel) with nothing but torch, and returns its size in bytes.

    It defines `load(content)`, which turns the bytes of the file into a dict of tensors by name, the same bit for bit as those of `torch_ans.load` (nested
    models: a flat dict of their names). It holds what this artifact needs and no more: another file may need another decoder. It decodes where torch
    makes tensors: on a GPU within `with torch.device("cuda"):`. It makes no checks; `torch_ans` has made them when the decoder was written.

    verify: decodes the artifact with it, compares, and raises a CorruptError if anything is not the same; this takes as long as decoding.
    Raises a CorruptError if the artifact is damaged, UnsupportedDtypeError if the installed torch lacks one of its dtypes."""
    check_target(out_path)  # before all the work
    if isinstance(artifact, CompressedModel):
        content = artifact.to_bytes()
    elif isinstance(artifact, (str, os.PathLike)):
        content = Path(artifact).read_bytes()
    else:
        content = bytes(artifact)
    text = decoder_of(content)
    if verify:
        check_decoder(text, content)
    with atomic_write(out_path) as file:
        return file.write(text.encode())


def decoder_of(content: bytes) -> str:
    """The decoder for the bytes of a file, as text. Raises as `write_decoder`."""
    with models.open(content, max_bytes=_UNLIMITED) as file:
        file.verify(decode=False)
        names = {entry.dtype for entry in file.index.entries}
    for name in names:
        torch_dtype(name)
    source = SOURCE.read_text()
    tree = _Folder(needs_of(content, source)).visit(ast.parse(source))
    dtypes = [f"{number}:torch.{dtype.name}" for number, dtype in enumerate(DTYPES) if dtype.name in names]
    _set_constants(tree, {"DTYPES": f"{{{','.join(dtypes)}}}"})
    _drop_unused(tree)
    return minify(tree, PUBLIC)


def check_decoder(text: str, content: bytes) -> None:
    """Raises a CorruptError unless the decoder `text` gives what `torch_ans` decodes."""
    decoded = module_of(text)["load"](content)
    with models.open(content, max_bytes=_UNLIMITED) as file:
        same = list(decoded) == file.keys() and all(same_bits(decoded[name], file.get_tensor(name), file.entry(name).dtype) for name in file.keys())
    if not same:
        raise CorruptError("the decoder does not decode this artifact as torch_ans does")


def module_of(text: str, **replaced: Any) -> dict[str, Any]:
    """The names that a module defines, some of them replaced by others."""
    names: dict[str, Any] = {}
    exec(compile(text, "decoder", "exec"), names)
    names.update(replaced)
    return names


class Needs:
    """What the marks of the source (`has`, `used`, `one`) say of a file."""

    def __init__(self) -> None:
        self.conditions: dict[str, set[bool]] = {}
        self.values: dict[str, set[int]] = {}

    def has(self, feature: str, condition: Any) -> Any:
        self.conditions.setdefault(feature, set()).add(bool(condition))
        return condition and feature != "CHUNKS"  # all of it shows where headers are read: no chunk is decoded

    def one(self, name: str, value: int) -> int:
        self.values.setdefault(name, set()).add(value)
        return value

    @property
    def used(self) -> set[str]:
        varying = {f"VARIES_{name}" for name, values in self.values.items() if len(values) > 1}
        return {feature for feature, found in self.conditions.items() if True in found} | varying

    @property
    def always(self) -> set[str]:
        return {feature for feature, found in self.conditions.items() if False not in found}

    @property
    def fixed(self) -> dict[str, int]:
        return {name: next(iter(values)) for name, values in self.values.items() if len(values) == 1}


def needs_of(content: bytes, source: str) -> Needs:
    """What a file needs of the source: it is run on it, all but the decoding of chunks."""
    needs = Needs()
    module_of(source, has=needs.has, one=needs.one)["load"](content)
    return needs


# ---- Specialising ----


class _Folder(ast.NodeTransformer):
    """Resolves the marks. What a condition reads from the file is still read where the condition itself is not needed any more."""

    def __init__(self, needs: Needs) -> None:
        self.used, self.always, self.fixed = needs.used, needs.always, needs.fixed

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        if node.name in _MARKS:
            return None
        if ast.get_docstring(node) is not None:
            del node.body[0]
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> Any:
        effect: list[ast.stmt] = []
        if (mark := _marked(node.test, "has")) is not None:
            feature, condition = mark
            if feature in self.used and feature not in self.always:
                node.test = condition
                return self.generic_visit(node)
            effect, known = _effect(condition), feature in self.used
        else:
            node.test = self.visit(node.test)
            if not isinstance(node.test, ast.Constant):
                return self.generic_visit(node)
            known = bool(node.test.value)
        return effect + self.visit(ast.Module(node.body if known else node.orelse, [])).body

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        self.generic_visit(node)
        return (node.body if node.test.value else node.orelse) if isinstance(node.test, ast.Constant) else node

    def visit_BoolOp(self, node: ast.BoolOp) -> Any:
        self.generic_visit(node)
        decides = isinstance(node.op, ast.Or)
        values = [value for value in node.values if not isinstance(value, ast.Constant) or bool(value.value) == decides]
        if first := [value for value in values if isinstance(value, ast.Constant)]:
            return first[0]
        return ast.BoolOp(node.op, values) if len(values) > 1 else values[0] if values else ast.Constant(not decides)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        self.generic_visit(node)
        return ast.Constant(not node.operand.value) if isinstance(node.op, ast.Not) and isinstance(node.operand, ast.Constant) else node

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        """Of two numbers; and products with 1."""
        self.generic_visit(node)
        for one, other in ((node.left, node.right), (node.right, node.left)):
            if isinstance(node.op, ast.Mult) and isinstance(one, ast.Constant) and one.value == 1:
                return other
        if isinstance(node.left, ast.Constant) and isinstance(node.right, ast.Constant) and isinstance(node.op, (ast.Mult, ast.LShift, ast.RShift)):
            return ast.Constant(eval(ast.unparse(node)))
        return node

    def visit_Expr(self, node: ast.Expr) -> Any:
        if isinstance(node.value, ast.Constant) or any(_marked(node.value, mark) for mark in _MARKS):
            return None
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> Any:
        effect = _effect(node.value) if (mark := _marked(node.value, "one")) and mark[0] in self.fixed else []
        return effect + [self.generic_visit(node)]

    def visit_Call(self, node: ast.Call) -> Any:
        if _marked(node, "has"):
            raise ValueError(f"line {node.lineno}: has() is for the conditions of if statements")
        if mark := _marked(node, "used"):
            return ast.Constant(mark[0] in self.used)
        if mark := _marked(node, "one"):
            return ast.Constant(self.fixed[mark[0]]) if mark[0] in self.fixed else self.visit(mark[1])
        return self.generic_visit(node)


def _marked(node: ast.expr, mark: str) -> tuple[str, Any] | None:
    """(name, value) of a call of `mark`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == mark:
        return node.args[0].value, node.args[-1]
    return None


def _effect(value: ast.expr) -> list[ast.stmt]:
    """What is left of an expression whose value nobody wants: the calls."""
    if isinstance(value, ast.Call) and not _marked(value, "one") and getattr(value.func, "id", getattr(value.func, "attr", "")) not in _PURE:
        return [ast.Expr(value)]
    if isinstance(value, (ast.IfExp, ast.BoolOp, ast.ListComp)):
        return [ast.Expr(value)] if any(isinstance(node, ast.Call) for node in ast.walk(value)) else []
    return [statement for child in ast.iter_child_nodes(value) if isinstance(child, ast.expr) for statement in _effect(child)]


def _set_constants(tree: ast.Module, values: dict[str, str]) -> None:
    """Gives constants of the module new values, and writes numbers where their names are."""
    numbers = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper():
            name = node.targets[0].id
            if name in values:
                node.value = ast.parse(values[name]).body[0].value
            elif isinstance(node.value, ast.Constant):
                numbers[name] = node.value

    class Writer(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> Any:
            return numbers[node.id] if node.id in numbers and isinstance(node.ctx, ast.Load) else node

    Writer().visit(tree)


def _drop_unused(tree: ast.Module) -> None:
    """Drops functions, imports and assignments of names that nothing reads, until there are none. (A name counts as one, wherever it is.)"""
    before = None
    while before != (text := ast.dump(tree)):
        before = text
        read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)} | set(PUBLIC)
        _Dropper(read).visit(tree)


class _Dropper(ast.NodeTransformer):
    def __init__(self, read: set[str]) -> None:
        self.read = read

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        if node.name not in self.read:
            return None
        self.generic_visit(node)
        stored = {child.id for child in ast.walk(node) if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store)}
        if node.args.vararg is not None and node.args.vararg.arg not in self.read:
            node.args.vararg = None
        node.body = _merged([child for child in node.body if not isinstance(child, ast.Nonlocal) or stored.intersection(child.names)])
        return node

    def visit_Module(self, node: ast.Module) -> Any:
        self.generic_visit(node)
        node.body = _merged(node.body)
        return node

    def visit_For(self, node: ast.For) -> Any:
        self.generic_visit(node)
        node.body = _merged(node.body)
        if len(node.body) == 1 and (count := _skipped(node.body[0])) and isinstance(node.iter, ast.Call) and isinstance(node.iter.args[0], ast.Constant):  # of range(2)
            node.body[0].value.args[0] = ast.Constant(count * node.iter.args[0].value)
            return node.body[0]
        return node if node.body else _effect(node.iter)

    def visit_If(self, node: ast.If) -> Any:
        self.generic_visit(node)
        node.body, node.orelse = _merged(node.body), _merged(node.orelse)
        return node if node.body or node.orelse else _effect(node.test)

    def visit_Import(self, node: ast.Import) -> Any:
        node.names = [alias for alias in node.names if alias.name in self.read]
        return node if node.names else None

    def visit_Assign(self, node: ast.Assign) -> Any:
        node.targets = [target for target in node.targets if not isinstance(target, ast.Name) or target.id in self.read]
        return self.generic_visit(node) if node.targets else _effect(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        return node if not isinstance(node.target, ast.Name) or node.target.id in self.read else _effect(node.value)


def _merged(body: list[ast.stmt]) -> list[ast.stmt]:
    """Neighbouring statements as one: `bits(2)` and `bits(1)`; `x = [1]` or `x += [1]`, and `x += [2]`; `a, *x = y` and `b, *x = x`."""
    result: list[ast.stmt] = []
    for node in body:
        before = result[-1] if result else ast.Pass()
        if _skipped(node) and _skipped(before):
            result[-1] = ast.Expr(ast.Call(ast.Name("bits", ast.Load()), [ast.Constant(_skipped(before) + _skipped(node))], []))
        elif _extended(node) and _extended(before) == _extended(node) and isinstance(node, ast.AugAssign):
            before.value.elts += node.value.elts
        elif _unpacked(node) and _unpacked(before) == _unpacked(node) and isinstance(node.value, ast.Name) and node.value.id == _unpacked(node):
            before.targets[0].elts[-1:] = node.targets[0].elts
        else:
            result.append(node)
    return result


def _extended(node: ast.stmt) -> str | None:
    """The name to which a statement assigns or adds a list."""
    target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else node.target if isinstance(node, ast.AugAssign) else None
    if isinstance(target, ast.Name) and isinstance(node.value, ast.List) and not any(isinstance(child, ast.Name) and child.id == target.id for child in ast.walk(node.value)):
        return target.id
    return None


def _unpacked(node: ast.stmt) -> str | None:
    """The name that takes the rest of what a statement unpacks."""
    target = node.targets[0] if isinstance(node, ast.Assign) else None
    last = target.elts[-1] if isinstance(target, ast.Tuple) else None
    return last.value.id if isinstance(last, ast.Starred) else None


def _skipped(node: ast.stmt) -> int:
    """Bits that a statement does nothing but skip."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name) and node.value.func.id == "bits":
        return node.value.args[0].value if isinstance(node.value.args[0], ast.Constant) else 0
    return 0


# ---- Minifying ----


def minify(tree: ast.Module, public: Sequence[str]) -> str:
    """The code of a module in few bytes: one-letter names for all but `public` ones, no needless space. Arguments of its own functions must be given by position."""
    imports = [node for node in tree.body if isinstance(node, ast.Import)]
    tree.body = [ast.Import([alias for node in imports for alias in node.names])] * bool(imports) + [node for node in tree.body if node not in imports]
    variables = _variables(tree, public)
    pieces = re.split(r"zz(\d{4})", "\n".join(_lines(tree.body, "")) + "\n")
    return _render(pieces, _short_names(pieces, variables))


class _Scope(NamedTuple):
    """A function (or the module), and the names that it binds; comprehensions and lambdas count as part of it."""

    node: Any
    parent: _Scope | None
    bound: set[str]

    def owner(self, name: str) -> _Scope | None:
        """The scope that a name in this one belongs to; None: a builtin."""
        return self if name in self.bound else self.parent.owner(name) if self.parent else None


def _inside(node: Any) -> Iterator[Any]:
    """What is in a scope, but not in functions within it; these themselves are."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, ast.FunctionDef):
            yield from _inside(child)


def _scopes(node: Any, parent: _Scope | None) -> Iterator[_Scope]:
    scope = _Scope(node, parent, set())
    outer = {name for child in _inside(node) if isinstance(child, ast.Nonlocal) for name in child.names}
    for child in _inside(node):
        name = child.id if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store) else _name(child)
        if name is not None and name not in outer:
            scope.bound.add(name)
    yield scope
    for child in _inside(node):
        if isinstance(child, ast.FunctionDef):
            yield from _scopes(child, scope)


def _name(node: Any) -> str | None:
    """The name that a node binds, if it is no assignment."""
    return node.name if isinstance(node, (ast.FunctionDef, ast.alias)) else node.arg if isinstance(node, ast.arg) else None


class _Variable(NamedTuple):
    """A variable of a module: its name, how often it occurs, and the functions within which no other may have its new name."""

    name: str
    count: int
    live: frozenset[int]


def _variables(tree: ast.Module, public: Sequence[str]) -> list[_Variable]:
    """Gives each variable a name of its own, `zz0000` and so on, and returns them in this order."""
    places: dict[tuple[int, str], list[tuple[Any, str]]] = {}
    live: dict[tuple[int, str], set[int]] = {}
    outer: list[tuple[ast.Nonlocal, list[tuple[int, str]]]] = []
    for scope in _scopes(tree, None):
        for node in _inside(scope.node):
            if isinstance(node, ast.Nonlocal):
                outer.append((node, [(id(scope.owner(name).node), name) for name in node.names]))
            for field in ("id", "name", "arg") if not isinstance(node, ast.keyword) else ():
                name = getattr(node, field, None)
                owner = scope.owner(name) if isinstance(name, str) and name not in public else None
                if owner is None:
                    continue
                variable = (id(owner.node), name)
                places.setdefault(variable, []).append((node, "asname" if isinstance(node, ast.alias) else field))
                seen: _Scope = scope
                while seen is not owner:
                    live.setdefault(variable, set()).add(id(seen.node))
                    seen = seen.parent
                live.setdefault(variable, set()).add(id(owner.node))
    numbers = {variable: number for number, variable in enumerate(places)}
    for variable, nodes in places.items():
        for node, field in nodes:
            setattr(node, field, f"zz{numbers[variable]:04}")
    for node, variables in outer:
        node.names = [f"zz{numbers[variable]:04}" for variable in variables]
    return [_Variable(variable[1], len(places[variable]), frozenset(live[variable])) for variable in places]


def _render(pieces: Sequence[str], names: Sequence[str]) -> str:
    """Text whose every other piece is the number of a variable."""
    return "".join([names[int(piece)] if i % 2 else piece for i, piece in enumerate(pieces)])


def _short_names(pieces: Sequence[str], variables: Sequence[_Variable]) -> list[str]:
    """Names of one letter for the most frequent variables. Functions that do not see each other's share letters, and variables that have the same
    name in the source keep sharing one where they can; then letters are exchanged as long as this compresses better (by DEFLATE, which every Python has)."""
    names = [""] * len(variables)
    clashes = [{other for other, b in enumerate(variables) if other != number and a.live & b.live} for number, a in enumerate(variables)]
    all_names = [a + b for a in ["", *string.ascii_letters] for b in string.ascii_letters if not keyword.iskeyword(a + b)]
    preferred: dict[str, str] = {}
    for number in sorted(range(len(variables)), key=lambda number: (-variables[number].count, variables[number].name)):
        taken = {names[other] for other in clashes[number]}
        wish = preferred.get(variables[number].name)
        names[number] = wish if wish and wish not in taken else next(name for name in all_names if name not in taken)
        preferred.setdefault(variables[number].name, names[number])
    rng = random.Random(0)
    best = len(zlib.compress(_render(pieces, names).encode(), 9))
    for _ in range(NAME_TRIALS):
        number = rng.randrange(len(names))
        old, new = names[number], rng.choice(names)
        others = [other for other in clashes[number] if names[other] == new]
        if len(old) != len(new) or old == new or any(names[third] == old and third != number for other in others for third in clashes[other]):
            continue
        trial = list(names)
        trial[number] = new
        for other in others:
            trial[other] = old
        size = len(zlib.compress(_render(pieces, trial).encode(), 9))
        if size <= best:
            names, best = trial, size
    return names


def _text(node: ast.AST) -> str:
    """The code of a statement or an expression. Tuples that are assigned, returned or looped over need no parentheses."""
    if isinstance(node, ast.Import):
        return "import " + ",".join(f"{alias.name} as {alias.asname}" if alias.asname else alias.name for alias in node.names)
    if isinstance(node, (ast.Assign, ast.Return)) and isinstance(node.value, ast.Tuple):
        head = "return " if isinstance(node, ast.Return) else "".join(_text(target) + "=" for target in node.targets)
        return head + ",".join(squeeze(ast.unparse(element)) for element in node.value.elts)
    if isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Store):
        return ",".join(squeeze(ast.unparse(element)) for element in node.elts)
    return squeeze(ast.unparse(node))


def _lines(body: Sequence[ast.stmt], indent: str) -> Iterator[str]:
    """Statements as lines; simple ones share a line."""
    simple: list[str] = []
    for node in body:
        if not isinstance(node, (ast.FunctionDef, ast.If, ast.For, ast.While)):
            simple.append(_text(node))
            continue
        if simple:
            yield indent + ";".join(simple)
            simple = []
        yield from _compound(node, indent)
    if simple:
        yield indent + ";".join(simple)


def _compound(node: Any, indent: str, word: str = "if") -> Iterator[str]:
    if isinstance(node, ast.FunctionDef):
        yield from (indent + "@" + squeeze(ast.unparse(decorator)) for decorator in node.decorator_list)
        head = f"def {node.name}({squeeze(ast.unparse(node.args))}):"
    elif isinstance(node, ast.For):
        head = squeeze(f"for {_text(node.target)} in {ast.unparse(node.iter)}:")
    else:
        head = squeeze(f"{'while' if isinstance(node, ast.While) else word} {ast.unparse(node.test)}:")
    yield from _block(head, node.body, indent)
    if not isinstance(node, ast.FunctionDef) and node.orelse:
        if isinstance(node, ast.If) and len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
            yield from _compound(node.orelse[0], indent, "elif")
        else:
            yield from _block("else:", node.orelse, indent)


def _block(head: str, body: list[ast.stmt], indent: str) -> Iterator[str]:
    inner = list(_lines(body or [ast.Pass()], indent + " "))
    if len(inner) == 1 and not isinstance((body or [ast.Pass()])[0], (ast.FunctionDef, ast.If, ast.For, ast.While)):
        yield indent + head + inner[0].lstrip()
    else:
        yield indent + head
        yield from inner


def squeeze(line: str) -> str:
    """A line of code without needless space."""
    result = ""
    for token in tokenize.generate_tokens(io.StringIO(line).readline):
        if token.type in (tokenize.OP, tokenize.NAME, tokenize.NUMBER, tokenize.STRING):
            needs_space = result[-1:].isalnum() or result[-1:] == "_"
            result += " " * (needs_space and (token.string[0].isalnum() or token.string[0] == "_")) + token.string
    return result
