"""Which calls a source file makes, read from its syntax tree; and whether a signature accepts them. Pure."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Call:
    """A call of `name` in line `line`. `starred`: some of its arguments are not written out."""

    name: str
    line: int
    positional: int
    keywords: tuple[str, ...]
    starred: bool


def imported_calls(source: str, package: str) -> list[Call]:
    """Calls of what `source` imports from `package` by name; `name` is "module:attribute"."""
    tree = ast.parse(source)
    names = {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and node.module
        and (node.module == package or node.module.startswith(f"{package}."))
        for alias in node.names
    }
    found = []
    for node in _calls(tree):
        base, _, method = ast.unparse(node.func).partition(".")
        if base in names and "." not in method:
            found.append(_call(f"{names[base]}.{method}" if method else names[base], node))
    return found


def method_calls(source: str, receivers: Mapping[str, str]) -> list[Call]:
    """Calls of methods of the expressions in `receivers`; `name` is what it maps to, and the method."""
    found = []
    for node in _calls(ast.parse(source)):
        if isinstance(node.func, ast.Attribute):
            receiver = receivers.get(ast.unparse(node.func.value))
            if receiver is not None:
                found.append(_call(f"{receiver}.{node.func.attr}", node))
    return found


def remote_calls(source: str, caller: str) -> list[Call]:
    """Calls of `caller("name", ...)`; `name` is the string."""
    found = []
    for node in _calls(ast.parse(source)):
        named = node.args[0] if node.args else None
        if (
            ast.unparse(node.func) == caller
            and isinstance(named, ast.Constant)
            and isinstance(named.value, str)
        ):
            found.append(_call(named.value, node, skipped=1))
    return found


def methods_of(source: str, class_name: str) -> dict[str, inspect.Signature]:
    """Signatures of the methods that a class defines, `self` left out, without importing it; types and
    values of defaults do not matter."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            return {
                item.name: _signature(item.args)
                for item in node.body
                if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    raise ValueError(f"no class {class_name}")


def refusal(signature: inspect.Signature, call: Call, bound: bool = False) -> str | None:
    """Why `signature` does not accept the arguments of `call`; None if it does.

    Args:
        bound: the signature is a method's and has a first argument that a caller does not write.
    """
    positional = [None] * (call.positional + bound)
    keywords = dict.fromkeys(call.keywords)
    try:
        (signature.bind_partial if call.starred else signature.bind)(*positional, **keywords)
    except TypeError as error:
        return str(error)
    return None


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _call(name: str, node: ast.Call, skipped: int = 0) -> Call:
    written = [argument for argument in node.args[skipped:] if not isinstance(argument, ast.Starred)]
    keywords = [keyword.arg for keyword in node.keywords]
    return Call(
        name,
        node.lineno,
        len(written),
        tuple(keyword for keyword in keywords if keyword is not None),
        starred=len(written) < len(node.args) - skipped or None in keywords,
    )


def _signature(arguments: ast.arguments) -> inspect.Signature:
    kinds = inspect.Parameter
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    parameters = [
        kinds(a.arg, kinds.POSITIONAL_OR_KEYWORD, default=kinds.empty if i < required else None)
        for i, a in enumerate(positional)
    ][1:]
    if arguments.vararg:
        parameters.append(kinds(arguments.vararg.arg, kinds.VAR_POSITIONAL))
    parameters += [
        kinds(a.arg, kinds.KEYWORD_ONLY, default=kinds.empty if default is None else None)
        for a, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    if arguments.kwarg:
        parameters.append(kinds(arguments.kwarg.arg, kinds.VAR_KEYWORD))
    return inspect.Signature(parameters)
