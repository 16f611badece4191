"""What a model takes and answers."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a model's input or output; `type` is the registry's word for it."""

    name: str
    type: str
    required: bool = True


@dataclass(frozen=True, kw_only=True)
class Signature:
    """All of them."""

    inputs: tuple[Column, ...]
    outputs: tuple[Column, ...]
