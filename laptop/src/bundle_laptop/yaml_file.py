"""One YAML file, read as the Databricks CLI (1.x) reads it before it knows which field wants which type.

`010` is 10, `0o10` and `0_10` are 8, `08` is the float 8.0. `yes`, `on`, `1:30` and dates stay text. Of two equal keys
the last counts. Of the maps in `<<: [*a, *b]` the last counts, and keys beside `<<` count more, above or below it.
Numbers lose their spelling: where a field wants text, `0x1F` becomes "31", `1.50` "1.5" and `1e3` "1000".

The CLI reads what follows; we refuse it. Anything after the first document, which it drops. `.inf` and `.nan`: JSON has
neither. UTF-16; a byte order mark inside the file; the line `%YAML 1.1`; a key that looks like a date but is none, like
2013-99-99; the tag !!timestamp; a hexadecimal float behind !!float; the escape `\\'`; a tab that indents a comment; in
brackets a bare `a:` before a comma, or a tag or an anchor without a value; an anchor on `<<`; over 100 levels; over a
million values from aliases.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import yaml

from bundle_laptop.errors import LaptopError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Tree: TypeAlias = dict[str, Json]

_LEVELS, _COPIES = 100, 1_000_000
_WORDS = {
    "!!null": "|~|null|Null|NULL",
    "!!bool": "true|True|TRUE|false|False|FALSE",
    "!!float": r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "!!merge": "<<",
    "date": "[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?",
}
_KINDS = {"!!int": "an int of 64 bits", "!!float": "a finite float", "!!bool": "true or false"}
_WRONG = re.compile("%YAML|[^\t\n\r -~\x85\xa0-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def read_yaml(root: Path, name: str) -> Tree:
    """The map in the file `name` below `root`; an empty map if the file holds nothing.

    Raises LaptopError, one line with the file and the line in it, if the CLI or we cannot read the file.
    """
    if not yaml.__with_libyaml__:
        raise LaptopError("PyYAML has no libyaml here; install PyYAML from a wheel")
    try:
        raw = (root / name).read_bytes()
        text = raw.decode().removeprefix("\ufeff")
        if not (wrong := _WRONG.search(text)):
            return _Reader(text).document()
        line, problem = text.count("\n", 0, wrong.start()) + 1, f"holds {wrong[0]!r}; delete it"
    except FileNotFoundError:
        raise LaptopError(f"{name}: no such file in {root}; run this in the project's folder") from None
    except UnicodeDecodeError as error:
        line, problem = raw.count(b"\n", 0, error.start) + 1, "is not UTF-8; save the file as UTF-8"
    except _RefusedError as error:
        line, problem = error.args
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = f"is not YAML: {error.problem}; fix the indentation, quotes or brackets here"
    raise LaptopError(f"{name}: line {line}: {problem}")


class _RefusedError(Exception):
    def __init__(self, event: yaml.Event, problem: str) -> None:
        super().__init__(event.start_mark.line + 1 if event.start_mark else 1, problem)


class _Reader:
    """Makes values of the parser's events; `anchors` holds the value of each anchor in a list."""

    def __init__(self, text: str) -> None:
        self.text, self.copies = text, 0
        self.anchors: dict[str | None, list[Json]] = {}
        self.events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.CSafeLoader)

    def document(self) -> Tree:
        next(self.events)
        if isinstance(next(self.events), yaml.StreamEndEvent):
            return {}
        root = next(self.events)
        value = self.value(root)
        next(self.events)
        for event in self.until(yaml.StreamEndEvent):
            raise _RefusedError(event, "starts a second document, which the CLI drops; move it to a file of its own")
        if not isinstance(value, dict | None):
            raise _RefusedError(root, "the file is not a map; write keys such as `resources:`")
        return value or {}

    def until(self, end: type[yaml.Event]) -> Iterator[yaml.Event]:
        while not isinstance(event := next(self.events), end):
            yield event

    def value(self, event: yaml.Event, level: int = 0, *, flow: bool = False) -> Json:
        if level > _LEVELS:
            raise _RefusedError(event, f"over {_LEVELS} levels are not supported on a laptop; nest less")
        if isinstance(event, yaml.AliasEvent):
            if not (anchored := self.anchors.get(event.anchor)):
                raise _RefusedError(event, f"the anchor &{event.anchor} does not end above this alias; fix the name")
            return self.copy(anchored[0], event, level)
        anchored = self.anchors[getattr(event, "anchor", None)] = []  # empty while we are inside it
        flow = flow or bool(getattr(event, "flow_style", False))
        value: Json
        if isinstance(event, yaml.ScalarEvent):
            value = self.scalar(event, flow=flow)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = [self.value(item, level + 1, flow=flow) for item in self.until(yaml.SequenceEndEvent)]
        else:
            value = self.map(level + 1, flow=flow)
        anchored.append(value)
        return value

    def map(self, level: int, *, flow: bool) -> Tree:
        own: Tree = {}
        merged: Tree | None = None
        for key in self.until(yaml.MappingEndEvent):
            tag = _tag(key) if isinstance(key, yaml.ScalarEvent) else "!!map"
            if isinstance(key, yaml.ScalarEvent) and tag in ("!!str", "!!null"):
                self.value(key, level, flow=flow)
                own[key.value] = self.value(next(self.events), level, flow=flow)
            elif isinstance(key, yaml.ScalarEvent) and tag == "!!merge" and merged is None and not key.anchor:
                start = next(self.events)
                value = self.value(start, level, flow=flow)
                maps = value if isinstance(value, list) and not isinstance(start, yaml.AliasEvent) else [value]
                merged = {name: one[name] for one in maps if isinstance(one, dict) for name in one}
                if isinstance(start, yaml.MappingStartEvent) or not all(isinstance(one, dict) for one in maps):
                    raise _RefusedError(start, "`<<` takes an alias of a map or a list of maps; write `<<: *name`")
            else:
                raise _RefusedError(key, "a key must be text, with one `<<` in a map; quote the key or join the lists")
        return {**(merged or {}), **own}

    def copy(self, value: Json, alias: yaml.Event, level: int) -> Json:
        self.copies += 1
        if level > _LEVELS or self.copies > _COPIES:
            raise _RefusedError(alias, f"aliases make over {_COPIES} values or {_LEVELS} levels; use fewer aliases")
        if isinstance(value, dict):
            return {key: self.copy(item, alias, level + 1) for key, item in value.items()}
        return [self.copy(item, alias, level + 1) for item in value] if isinstance(value, list) else value

    def scalar(self, event: yaml.ScalarEvent, *, flow: bool) -> Json:
        text = event.value
        if event.style == '"' and event.start_mark and event.end_mark:
            raw = self.text[event.start_mark.index : event.end_mark.index]
            if re.search(r"(?<!\\)(\\\\)*\\/", raw):
                raise _RefusedError(event, r"the CLI knows no escape `\/`; write `/`")
        if flow and not event.style and ("?" in text or (not text and (event.tag or event.anchor))):
            raise _RefusedError(event, f"{text[:40]!r} cannot stand in brackets as it is; quote it")
        value: Json = None
        match tag := _tag(event):
            case "!!str" | "date":
                return text
            case "!!null":
                return None
            case "!!bool":
                value = {"true": True, "false": False}.get(text.lower())
            case "!!int":
                value = _int(text)
            case "!!float":
                value = _float(text)
        if value is None:
            kind = _KINDS.get(tag, f"a value that fits its tag {tag}")
            raise _RefusedError(event, f"{text[:40]!r} is not {kind}; quote it, without a tag, to make it text")
        return value


def _tag(event: yaml.ScalarEvent) -> str:
    """The tag in short, or the one that the spelling of a bare scalar asks for."""
    if event.tag not in (None, "!"):
        return re.sub("^tag:yaml.org,2002:", "!!", event.tag)
    if event.style:
        return "!!str"
    text, plain = event.value, event.value.replace("_", "")
    for tag, pattern in _WORDS.items():
        if re.fullmatch(pattern, text):
            return tag
    if not re.match("[-+0-9]", text):
        return "!!float" if text.startswith(".") and _float(text) is not None else "!!str"
    whole = _based(plain)
    if whole is not None and -(2**63) <= whole < 2 ** (63 if plain.startswith("+") else 64):
        return "!!int"
    if _float(plain) is not None:
        return "!!float"
    return "!!int" if re.fullmatch("0b[-+][01]+|0o[-+][0-7]+", plain) else "!!str"


def _int(text: str) -> int | None:
    """The int of 64 bits: digits alone are base 10 even behind a 0, or base 8 if that is too large."""
    digits = text.lstrip("0")
    decimal = int(digits) if re.fullmatch("[-+]?[0-9]{1,999}", digits) else None
    return next((n for n in (decimal, _based(text)) if n is not None and -(2**63) <= n < 2**63), None)


def _based(text: str) -> int | None:
    """The int in the base that its prefix says; a 0 alone says base 8."""
    try:
        octal = re.sub("^([-+]?)0_?(?=[0-7])", r"\g<1>0o", text)
        return int(octal, 0) if re.fullmatch("[-+0-9A-Za-z_]+", octal) else None
    except ValueError:
        return None


def _float(text: str) -> float | None:
    try:
        value = float(text) if re.fullmatch("[-+0-9._eE]+", text) else math.inf
    except ValueError:
        return None
    return value if math.isfinite(value) else None
