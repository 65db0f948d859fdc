"""Objects of the program's as tests see them. What is done to them is done over there; they equal no value of the
tests' own, since what they would say of that is the program's word."""

from __future__ import annotations

import contextlib
import random
from collections import namedtuple
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, ClassVar, Protocol

from .values import Standing

_TOLD = ("__name__", "__qualname__", "__doc__", "__annotations__", "__wrapped__", "__dict__")
"""Attributes with such names that are the object's, not the reference's."""
_DECOYS = 3


class NotCrossing(BaseException):
    """The tests do something that can't be done from another process, so nothing can be said of the program."""

    met: ClassVar[list[NotCrossing]] = []
    """All that were raised: tests that catch everything don't make it undone."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.met.append(self)


@contextlib.contextmanager
def _all_the_same() -> Iterator[None]:
    """What can't cross is no answer here, and no more."""
    try:
        yield
    except NotCrossing as error:
        NotCrossing.met.remove(error)


class Owner(Protocol):
    """The program."""

    def ask(self, ref: int, operation: str, *args: Any, **kwargs: Any) -> Any:
        """Have something done with an object; raise what that raises."""
        ...

    def is_tested(self, kind: str) -> bool:
        """Whether the tests name a class: then what its objects do is what is tested."""
        ...


class Reference(Standing):
    """An object of the program's."""

    __slots__ = ("__weakref__", "_kind", "_owner", "_reference")

    def __init__(self, owner: Owner, reference: int, kind: str) -> None:
        for name, value in (("_owner", owner), ("_reference", reference), ("_kind", kind)):
            object.__setattr__(self, name, value)

    _owner: Owner
    _reference: int
    _kind: str

    def _ask(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        return self._owner.ask(self._reference, operation, *args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._ask("call", *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in _TOLD:
            raise AttributeError(name)
        return self._ask("attribute", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("set_attribute", name, value)

    def __delattr__(self, name: str) -> None:
        self._ask("del_attribute", name)

    def __getitem__(self, key: Any) -> Any:
        return self._ask("item", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._ask("set_item", key, value)

    def __delitem__(self, key: Any) -> None:
        self._ask("del_item", key)

    def __contains__(self, item: Any) -> bool:
        """Look among the items; where there are none to look at, don't believe an object that contains everything."""
        with contextlib.suppress(TypeError):
            return any(item is one or item == one for one in self)
        asked = [item, *(_decoy(item) for _ in range(_DECOYS))]
        random.shuffle(asked)
        said = {id(one): bool(self._ask("contains", one)) for one in asked}
        return said.pop(id(item)) and not any(said.values())

    def __len__(self) -> int:
        return int(self._ask("len"))

    def __bool__(self) -> bool:
        return bool(self._ask("bool"))

    def __int__(self) -> int:
        return int(self._ask("int"))

    def __float__(self) -> float:
        return float(self._ask("float"))

    def __index__(self) -> int:
        return int(self._ask("index"))

    def __str__(self) -> str:
        return str(self._ask("str"))

    def __repr__(self) -> str:
        return str(self._ask("repr"))

    def __format__(self, spec: str) -> str:
        return str(self._ask("format", spec))

    def __iter__(self) -> Iterator[Any]:
        return _items(self._ask("iterate"))

    def __reversed__(self) -> Iterator[Any]:
        return _items(self._ask("reversed"))

    def __next__(self) -> Any:
        return self._ask("next")

    def __enter__(self) -> Any:
        entered = self._ask("enter")
        return self if entered is None else entered

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        return bool(self._ask("exit", None if error is None else str(error)))

    def __copy__(self) -> Any:
        return self._ask("copy")

    def __deepcopy__(self, _: object) -> Any:
        return self._ask("deepcopy")

    def __mro_entries__(self, _: object) -> tuple[type, ...]:
        raise NotCrossing("the tests derive a class from one of the program's, which is in another process")

    def __instancecheck__(self, instance: Any) -> bool:
        with _all_the_same():
            return bool(self._ask("is_instance", instance))
        return False

    def __subclasscheck__(self, kind: Any) -> bool:
        return isinstance(kind, Standing) and bool(self._ask("is_subclass", kind))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Reference):
            return self._reference == other._reference or bool(self._ask("equal", other))
        if self._owner.is_tested(self._kind) and self._says_equal(other):
            raise NotCrossing(f"the tests compare a {self._kind} of the program's with what isn't one, by its own word")
        return False

    def _says_equal(self, other: object) -> bool:
        with contextlib.suppress(Exception), _all_the_same():
            return bool(self._ask("equal", other)) and not self._ask("equal", _decoy(other))
        return False

    def __hash__(self) -> int:
        return self._reference


def _items(iterator: Any) -> Iterator[Any]:
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            return
        yield item


def _decoy(item: Any) -> Any:
    """Return a value of the same kind that nothing contains or equals."""
    number = random.getrandbits(48) + (1 << 50)
    if isinstance(item, str):
        return f"{item[: len(item) // 2]}{number:x}"
    if isinstance(item, tuple | list):
        return type(item)([number, *item])
    return number


def _operator(name: str, compares: bool) -> Callable[[Reference, Any], Any]:
    def operate(self: Reference, other: Any) -> Any:
        # what an object of the program's says of a value isn't believed, unless its class is what is tested
        if not isinstance(other, Reference):
            if not self._owner.is_tested(self._kind):  # pyright: ignore[reportPrivateUsage]
                return NotImplemented
            if compares:
                raise NotCrossing(f"the tests compare a {self._kind} of the program's with what isn't one")  # pyright: ignore[reportPrivateUsage]
        return self._ask(name, other)  # pyright: ignore[reportPrivateUsage]

    return operate


for _name in ("lt", "le", "gt", "ge"):
    setattr(Reference, f"__{_name}__", _operator(_name, compares=True))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
    setattr(Reference, f"__{_name}__", _operator(_name, compares=False))
    setattr(Reference, f"__r{_name}__", _operator(f"r{_name}", compares=False))
for _name in ("neg", "abs", "invert"):
    setattr(Reference, f"__{_name}__", lambda self, _name=_name: self._ask(_name))


class _Number(int, Standing):
    """A member of an enumeration of the program's that is a number as well."""


class _Text(str, Standing):
    """The same for text."""


def member(reference: Reference, name: Any, value: Any) -> Any:
    """Return what stands for a member of an enumeration of the program's that is a number or text."""
    made: Any = _Text(value) if isinstance(value, str) else _Number(value)
    made.name, made.value, made._reference = name, value, reference._reference  # pyright: ignore[reportPrivateUsage]
    return made


def named_tuple(name: str, fields: tuple[str, ...]) -> Any:
    """Return a class of named tuples; those that bring a reference have the program's other attributes, too."""
    plain = namedtuple(name, fields, rename=True)

    def missing(self: Any, attribute: str) -> Any:
        if attribute.startswith("_") or "_standing" not in self.__dict__:
            raise AttributeError(attribute)
        return getattr(self.__dict__["_standing"], attribute)

    def standing(self: Any, reference: Reference) -> None:
        self.__dict__["_standing"] = reference

    return type(name, (plain,), {"__getattr__": missing, "_stand_for": standing})


def awaited(reference: Reference) -> Awaitable[Any]:
    """Return a coroutine that stands for one of the program's."""

    async def wait() -> Any:
        return reference._ask("await")  # pyright: ignore[reportPrivateUsage]

    return wait()


def generated(reference: Reference) -> Iterator[Any]:
    """Return a generator that stands for one of the program's."""
    yield from _items(reference)
