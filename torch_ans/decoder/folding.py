"""Leaves of the source what one file needs."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

_MARKS = ("has", "used", "one")
#: Functions that are not called for what they do but for what they return; `pop` empties lists that nothing else reads.
_PURE = ("enumerate", "iinfo", "len", "max", "min", "pop", "range", "unfold")


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


def needs_of(run: Callable[[dict[str, Any]], object]) -> Needs:
    """What a file needs of the source. `run` runs it on the file, with these functions instead of its own."""
    needs = Needs()
    run({"has": needs.has, "one": needs.one})
    return needs


def folded(source: str, needs: Needs, constants: dict[str, str], public: Sequence[str]) -> ast.Module:
    """The source with what a file needs, and other values for some constants of the module. `public`: names that are kept."""
    tree = _Folder(needs).visit(ast.parse(source))
    _set_constants(tree, constants)
    _drop_unused(tree, public)
    return tree


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


def _drop_unused(tree: ast.Module, public: Sequence[str]) -> None:
    """Drops functions, imports and assignments of names that nothing reads, until there are none. (A name counts as one, wherever it is.)"""
    before = None
    while before != (text := ast.dump(tree)):
        before = text
        read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)} | set(public)
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
