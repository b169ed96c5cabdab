"""Whose variable is which: every variable of a module gets a name of its own, so that code can be moved without a name meaning something else."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.Lambda)


class Region(ast.stmt):
    """What was the body of a function, where it was called: its variables mean nothing outside, and have no value yet whenever it begins."""

    _fields = ("body",)


class Variable(NamedTuple):
    name: str  # in the source
    owner: ast.AST  # the module, function or comprehension that binds it


class _Scope(NamedTuple):
    node: ast.AST
    parent: _Scope | None
    bound: set[str]

    def owner(self, name: str) -> _Scope | None:
        """The scope that a name in this one belongs to; None: a builtin."""
        return self if name in self.bound else self.parent.owner(name) if self.parent else None


def own_variables(tree: ast.Module, public: Sequence[str]) -> dict[str, Variable]:
    """Gives each variable but the public ones a name of its own, `zz0000` and so on, and returns what they are."""
    variables: dict[str, Variable] = {}
    renamed: dict[tuple[int, str], str] = {}
    for node, field, name, scope in list(_names(tree, _Scope(tree, None, _bound(tree.body)))):
        owner = scope.owner(name)
        if owner is None or name in public:
            continue
        key = (id(owner.node), name)
        if key not in renamed:
            renamed[key] = f"zz{len(renamed):04}"
            variables[renamed[key]] = Variable(name, owner.node)
        if isinstance(node, ast.Nonlocal):
            node.names[node.names.index(name)] = renamed[key]
        else:
            node.source = name  # type: ignore[attr-defined]
            setattr(node, field, renamed[key])
    return variables


def name_in_source(node: ast.AST) -> str:
    """What a variable was called before it got a name of its own; of an attribute, this; otherwise nothing."""
    return getattr(node, "source", "") or getattr(node, "id", "") or getattr(node, "attr", "")


def evaluated_outside(node: Any) -> ast.expr:
    """What a comprehension takes from the scope around it: its outermost iterable."""
    return node.generators[0].iter


def inside_comprehension(node: Any) -> list[ast.AST]:
    """All parts of a comprehension but what it takes from outside."""
    results = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
    for number, generator in enumerate(node.generators):
        results += [generator.target, *generator.ifs, *([generator.iter] if number > 0 else [])]
    return results


def _names(node: ast.AST, scope: _Scope) -> Iterator[tuple[ast.AST, str, str, _Scope]]:
    """(node, field, name, scope that it is looked up in) of every name in a node."""
    if isinstance(node, ast.Name):
        yield node, "id", node.id, scope
    elif isinstance(node, ast.arg):
        yield node, "arg", node.arg, scope
    elif isinstance(node, ast.alias):
        yield node, "asname", node.asname or node.name, scope
    elif isinstance(node, ast.Nonlocal):
        assert scope.parent is not None
        for name in list(node.names):
            yield node, "names", name, scope.parent
    if isinstance(node, FUNCTIONS):
        if isinstance(node, ast.FunctionDef):
            yield node, "name", node.name, scope
        inner = _Scope(node, scope, _bound(node.body if isinstance(node, ast.FunctionDef) else []) | {arg.arg for arg in ast.walk(node.args) if isinstance(arg, ast.arg)})
        for child in ast.iter_child_nodes(node):
            yield from _names(child, inner)
    elif isinstance(node, COMPREHENSIONS):
        yield from _names(evaluated_outside(node), scope)
        inner = _Scope(node, scope, {name.id for generator in node.generators for name in ast.walk(generator.target) if isinstance(name, ast.Name)})
        for child in inside_comprehension(node):
            yield from _names(child, inner)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _names(child, scope)


def _bound(body: Sequence[ast.AST]) -> set[str]:
    """Names that the statements of a scope bind."""
    bound: set[str] = set()
    outer: set[str] = set()

    def look(node: ast.AST) -> None:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.alias):
            bound.add(node.asname or node.name)
        elif isinstance(node, ast.Nonlocal):
            outer.update(node.names)
        elif isinstance(node, ast.FunctionDef):
            bound.add(node.name)
        if not isinstance(node, (*FUNCTIONS, *COMPREHENSIONS)):
            for child in ast.iter_child_nodes(node):
                look(child)

    for node in body:
        look(node)
    return bound - outer
