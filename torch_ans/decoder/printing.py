"""Code in few bytes."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator, Sequence
from typing import Any

from .scopes import Region


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


def lines(body: Sequence[ast.stmt], indent: str) -> Iterator[str]:
    """Statements as lines; simple ones share a line."""
    simple: list[str] = []
    for node in _flat(body):
        if isinstance(node, ast.FunctionDef) and isinstance(node.body[0], ast.Return):
            node = ast.Assign([ast.Name(node.name, ast.Store())], ast.Lambda(node.args, node.body[0].value), lineno=0)
        if not isinstance(node, (ast.FunctionDef, ast.If, ast.For, ast.While)):
            simple.append(_text(node))
            continue
        if simple:
            yield indent + ";".join(simple)
            simple = []
        yield from _compound(node, indent)
    if simple:
        yield indent + ";".join(simple)


def _flat(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, Region):
            yield from _flat(node.body)
        else:
            yield node


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
    body = list(_flat(body)) or [ast.Pass()]
    inner = list(lines(body, indent + " "))
    if len(inner) == 1 and not isinstance(body[0], (ast.FunctionDef, ast.If, ast.For, ast.While)):
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
