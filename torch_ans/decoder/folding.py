"""Leaves of the source what one file needs."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

from .dropping import drop_unused, effect_of
from .simplifying import Arithmetic

_MARKS = ("has", "used", "one")


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
    drop_unused(tree, public)
    return tree


class _Folder(Arithmetic):
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
            effect, known = effect_of(condition), feature in self.used
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

    def visit_Expr(self, node: ast.Expr) -> Any:
        if isinstance(node.value, ast.Constant) or any(_marked(node.value, mark) for mark in _MARKS):
            return None
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> Any:
        effect = effect_of(node.value) if (mark := _marked(node.value, "one")) and mark[0] in self.fixed else []
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


def _set_constants(tree: ast.Module, values: dict[str, str]) -> None:
    """Gives constants of the module new values, and writes numbers where their names are."""
    numbers = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper():
            name = node.targets[0].id
            if name in values:
                node.value = ast.parse(values[name]).body[0].value
            if isinstance(node.value, ast.Constant):
                numbers[name] = node.value

    class Writer(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> Any:
            return numbers[node.id] if node.id in numbers and isinstance(node.ctx, ast.Load) else node

    Writer().visit(tree)
