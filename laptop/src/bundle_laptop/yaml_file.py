"""One YAML file, read as the Databricks CLI (1.x) reads it before it knows which field wants which type.

`yes`, `on`, `1:30` and dates stay text. Of two equal keys the last counts. Of the maps in `<<: [*a, *b]` the last
counts, and keys beside `<<` count more, above or below it. A number loses its spelling: where a field wants text,
`1.50` becomes "1.5" and `1e3` "1000".

The CLI reads what follows; we refuse it. A number that is not in plain decimal digits, such as `010` (which it reads as
10), `0_10` (8), `0x1F` or `1_000`, or that is no int of 64 bits and no finite float. Any tag but !!str on a scalar. An
anchor that is defined twice. Anything after the first document, which it drops. Over 100 levels.
"""

import math
import re
from pathlib import Path
from typing import TypeAlias

import yaml

from bundle_laptop.errors import LaptopError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Tree: TypeAlias = dict[str, Json]

_LEVELS = 100
_BARE, _TEXT = "bare", "tag:yaml.org,2002:str"
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_OTHER = re.compile(r"[-+]?0[bBoOxX][-+0-9a-fA-F]+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)|<<")
_NO_KEY = re.compile("<<|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?")


class _Loader(yaml.CSafeLoader):
    """Gives a bare scalar a tag of its own, since its spelling says its type."""

    yaml_implicit_resolvers = {None: [(_BARE, re.compile(""))]}  # noqa: RUF012 (as PyYAML has it)


class _RefusedError(Exception):
    def __init__(self, node: yaml.Node, problem: str) -> None:
        super().__init__(node.start_mark.line + 1, problem)


def read_yaml(root: Path, name: str) -> Tree:
    """The map in the file `name` below `root`; an empty map if the file holds nothing.

    Raises LaptopError, one line with the file and the line in it, if the CLI or we cannot read the file.
    """
    try:
        raw = (root / name).read_bytes()
        node = yaml.compose(raw.decode("utf-8-sig"), Loader=_Loader)
        value = _value(node) if node else {}
        if isinstance(value, dict | None):
            return value or {}
        line, problem = (
            node.start_mark.line + 1 if node else 1,
            "the file is not a map; write keys such as `resources:`",
        )
    except FileNotFoundError:
        raise LaptopError(f"{name}: no such file in {root}; run this in the project's folder") from None
    except UnicodeDecodeError as error:
        line, problem = raw.count(b"\n", 0, error.start) + 1, "is not UTF-8; save the file as UTF-8"
    except _RefusedError as error:
        line, problem = error.args
    except yaml.reader.ReaderError as error:
        line, problem = raw.count(b"\n", 0, error.position) + 1, f"holds {chr(error.character)!r}; delete it"
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = f"is not YAML: {error.problem}; fix the indentation, quotes or brackets here"
        if error.problem == "but found another document":
            problem = "starts a second document, which the CLI drops; move it to a file of its own"
    raise LaptopError(f"{name}: line {line}: {problem}")


def _value(node: yaml.Node, level: int = 0) -> Json:
    if level > _LEVELS:
        raise _RefusedError(node, f"over {_LEVELS} levels are not supported on a laptop; nest less")
    if isinstance(node, yaml.MappingNode):
        return _map(node, level + 1)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, level + 1) for item in node.value]
    if node.tag not in (_BARE, _TEXT):
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        raise _RefusedError(node, f"the tag {tag} is not supported on a laptop; delete it, or quote the value")
    return _scalar(node, node.value) if _is_bare(node) else str(node.value)


def _map(node: yaml.MappingNode, level: int) -> Tree:
    own: Tree = {}
    merged: Tree | None = None
    for key, item in node.value:
        value = _value(item, level)
        if _is_bare(key) and key.value == "<<" and merged is None:
            maps = value if isinstance(value, list) else [value]
            merged = {name: one[name] for one in maps if isinstance(one, dict) for name in one}
            is_alias = item.start_mark.index < key.start_mark.index
            if isinstance(value, list) is is_alias or not all(isinstance(one, dict) for one in maps):
                raise _RefusedError(key, "`<<` takes an alias of a map or a list of maps; write `<<: *name`")
        elif isinstance(key, yaml.ScalarNode) and _is_text(key):
            own[key.value] = value
        else:
            raise _RefusedError(key, "a key must be text, with one `<<` in a map; quote the key or join the lists")
    return {**(merged or {}), **own}


def _is_text(key: yaml.ScalarNode) -> bool:
    if _is_bare(key) and _NO_KEY.fullmatch(key.value):
        return False
    return isinstance(_value(key), str | None)


def _is_bare(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == _BARE and not node.style


def _scalar(node: yaml.Node, text: str) -> Json:
    if text in _WORDS:
        return _WORDS[text]
    plain = text if text.startswith("_") else text.replace("_", "")
    number = _NUMBER.fullmatch(plain)
    if _OTHER.fullmatch(plain) or (number and (text != plain or re.match("[-+]?0[0-9]", text))):
        raise _RefusedError(node, f"{text[:40]!r} is not a number in plain decimal digits; write it so, or quote it")
    if not number:
        return text
    value = int(text) if len(text) < 30 and re.fullmatch("[-+]?[0-9]+", text) else float(text)
    if not (math.isfinite(value) if isinstance(value, float) else -(2**63) <= value < 2**63):
        raise _RefusedError(node, f"{text[:40]!r} is no int of 64 bits and no finite float; quote it to make it text")
    return value
