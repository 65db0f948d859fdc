"""An operator from a function: what ``Operator`` says in a class, said by a decorator.

    @operator(version=1, scope="problem", inputs={"samples": Sample.select("problem_key", "completion")}, output=Answer)
    def longest(samples: pl.DataFrame, *, least: int = 1) -> pl.DataFrame:
        '''Pick the longest completion of each problem.'''

``longest`` is then an operator's class, known as ``package.module:longest``. Parameters that are neither inputs nor
tools are its settings. What was decorated can still be called: ``longest.function(table)``. A coroutine function that
takes ``engine`` asks an engine.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from pydantic import Field, create_model

from operators.asking import AskingOperator
from operators.base import Operator, Scope
from schemas.contract import Columns, Contract
from schemas.later import pl

TOOLS = ("engine", "workers", "sandbox")


def operator(
    *, version: int, scope: Scope, inputs: Mapping[str, Columns], output: type[Contract]
) -> Callable[[Callable[..., Any]], type[Operator]]:
    """Return a decorator that makes an operator of a function; the arguments are ``Operator``'s class attributes.

    An input is optional where its parameter has a default.

    Raises:
        TypeError: the function doesn't take an input, or has a parameter whose type isn't said.
    """

    def decorate(function: Callable[..., Any]) -> type[Operator]:
        name = function.__qualname__
        parameters, hints = inspect.signature(function).parameters, get_type_hints(function, include_extras=True)
        lacking = [key for key in inputs if key not in parameters]
        if lacking:
            raise TypeError(f"operator {name}: the function doesn't take its inputs {lacking}")
        fields: dict[str, Any] = {}
        for key, parameter in parameters.items():
            if key in inputs or key in TOOLS:
                continue
            if key not in hints:
                raise TypeError(f"operator {name}: say the type of its setting '{key}'")
            fields[key] = (hints[key], Field() if parameter.default is parameter.empty else parameter.default)
        asks = inspect.iscoroutinefunction(function)
        base = AskingOperator if asks else Operator
        made = create_model(name, __base__=base, __module__=function.__module__, __doc__=function.__doc__, **fields)

        def given(own: Operator, tables: dict[str, Any]) -> dict[str, Any]:
            return {**{key: getattr(own, key) for key in fields}, **tables}

        async def ask(own: Operator, engine: Any, **tables: Any) -> pl.DataFrame:
            return await function(engine=engine, **given(own, tables))

        def run(own: Operator, **tables: Any) -> pl.DataFrame:
            return function(**given(own, tables))

        said = {
            "version": version,
            "scope": scope,
            "inputs": dict(inputs),
            "output": output,
            "optional": frozenset(key for key in inputs if parameters[key].default is not inspect.Parameter.empty),
            "tools": tuple(tool for tool in TOOLS if tool in parameters),
            "function": staticmethod(function),
            "__qualname__": name,
            **({"ask": ask} if asks else {"run": run}),
        }
        for key, value in said.items():
            setattr(made, key, value)
        return made

    return decorate
