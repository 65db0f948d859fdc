"""The base of everything that people set: nothing unknown, nothing infinite, no ``true`` where a number is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator

from schemas.explained import explanations

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema


class Settings(BaseModel):
    """A frozen group of settings. What stands under its fields reaches the schema (``schemas.explained``)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        said = handler.resolve_ref_schema(described := handler(schema))
        for name, text in explanations(cls).items():
            if name in said.get("properties", {}):
                said["properties"][name].setdefault("description", text)
        return described

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, values: Any) -> Any:
        """Refuse ``n: true``, which would be 1."""
        if isinstance(values, dict):
            for name, value in values.items():  # pyright: ignore[reportUnknownVariableType]
                field = cls.model_fields.get(str(name))  # pyright: ignore[reportUnknownArgumentType]
                if isinstance(value, bool) and field is not None and _is_number(field.annotation):
                    raise ValueError(f"{name} takes a number, not {str(value).lower()}")
        return values  # pyright: ignore[reportUnknownVariableType]


def _is_number(annotation: Any) -> bool:
    """Whether a field takes numbers and no truth values."""
    kinds = _kinds(annotation)
    return bool(kinds & {int, float}) and bool not in kinds


def _kinds(annotation: Any) -> set[Any]:
    parts = get_args(annotation)
    return {annotation} if not parts else {kind for part in parts for kind in _kinds(part)}
