"""Each value below is what the Databricks CLI (1.x) reads from the text beside it."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle_laptop.errors import LaptopError
from bundle_laptop.yaml_file import Json, Tree, read_yaml

# The value of `a` in the file `a: <text>`.
VALUES: list[tuple[str, Json]] = [
    # ints
    ("0", 0),
    ("-0", 0),
    ("+7", 7),
    ("2147483648", 2147483648),
    ("9223372036854775807", 9223372036854775807),
    ("-9223372036854775808", -9223372036854775808),
    # floats
    ("1.", 1.0),
    (".5", 0.5),
    ("-.5", -0.5),
    ("1e3", 1000.0),
    ("1E-2", 0.01),
    ("+.nan", "+.nan"),
    (".Nan", ".Nan"),
    # neither
    ("1:30", "1:30"),
    ("1.2.3", "1.2.3"),
    ("15.4.x-scala2.12", "15.4.x-scala2.12"),
    ("0x", "0x"),
    ("_1", "_1"),
    (".", "."),
    ("\u0661", "\u0661"),
    # bools and nulls
    ("true", True),
    ("FALSE", False),
    ("tRUE", "tRUE"),
    ("yes", "yes"),
    ("No", "No"),
    ("on", "on"),
    ("y", "y"),
    ("", None),
    ("~", None),
    ("NULL", None),
    ("nULL", "nULL"),
    ("'null'", "null"),
    # dates
    ("2013-01-01", "2013-01-01"),
    ("2013-1-1T1:2:3Z", "2013-1-1T1:2:3Z"),
    ("2013-99-99", "2013-99-99"),
    # quoted and block scalars
    ("'010'", "010"),
    ('"a\\tb\\x41\\u00e9\\\n  c"', "a\tbAéc"),
    ('"\\\\/"', "\\/"),
    ("'it''s'", "it's"),
    ("b\n  c\n\n  d", "b c\nd"),
    ("b # c", "b"),
    ("b#c", "b#c"),
    ("|\n  1\n   2\n", "1\n 2\n"),
    ("|-\n  1\n", "1"),
    ("|+\n  1\n", "1\n\n"),
    ("|2\n   1\n", " 1\n"),
    (">\n  1\n  2\n\n  3\n", "1 2\n3\n"),
    ("|\r\n  1\r\n  2\r\n", "1\n2\n"),
    # flow and tabs
    ("[b, {c: d, e: , f}, 'g']", ["b", {"c": "d", "e": None, "f": None}, "g"]),
    ("[b: c]", [{"b": "c"}]),
    ("{b:c, d: http://x:80}", {"b:c": None, "d": "http://x:80"}),
    ("[http://x]", ["http://x"]),
    ("\tb\t# c", "b"),
    ("\n- b", ["b"]),
    # tags
    ("!!str 1", "1"),
    ("!!str", ""),
    ("! 1", 1),
    ("! '1'", "1"),
    ("!!set {b, c}", {"b": None, "c": None}),
    ("!own [b]", ["b"]),
    ("!own {b: c}", {"b": "c"}),
]

FILES: list[tuple[str, Tree]] = [
    # empty
    ("", {}),
    ("# nothing\n", {}),
    ("---\n", {}),
    ("~\n", {}),
    ("\ufeffa: 1\n", {"a": 1}),
    ("---\na: 1\n...\n", {"a": 1}),
    # keys
    ("'1': a\n!!str 2: b\n", {"1": "a", "2": "b"}),
    ("null: a\n~: b\n? c\n", {"null": "a", "~": "b", "c": None}),
    ("on: a\nyes: b\n2013-01: {}\n", {"on": "a", "yes": "b", "2013-01": {}}),
    ("a: 1\nb: 2\na: {c: 3}\n", {"a": {"c": 3}, "b": 2}),
    ("&k a: *k\n", {"a": "a"}),
    # anchors
    ("a: &x [1, {b: 2}]\nc: *x\nd: [*x, *x]\n", {"a": [1, {"b": 2}], "c": [1, {"b": 2}], "d": [[1, {"b": 2}]] * 2}),
    ("a: &x http://h/?q\nb: [*x]\n", {"a": "http://h/?q", "b": ["http://h/?q"]}),
    # merges
    ("c: {<<: [&a {x: 2, y: 1}, &b {x: 8}]}\n", {"c": {"x": 8, "y": 1}}),
    ("a: &a {x: 2}\nb: &b {x: 8}\nc: {<<: [*a, *b]}\n", {"a": {"x": 2}, "b": {"x": 8}, "c": {"x": 8}}),
    ("a: &a {x: 2}\nc:\n  x: 3\n  <<: *a\n  y: 4\n", {"a": {"x": 2}, "c": {"x": 3, "y": 4}}),
    ("a: &a {x: 2}\nc:\n  <<: *a\n  x: 3\n", {"a": {"x": 2}, "c": {"x": 3}}),
    ("a: &a {x: {y: 1}}\nc: {<<: *a, x: {z: 2}}\n", {"a": {"x": {"y": 1}}, "c": {"x": {"z": 2}}}),
    ("b: &b {<<: [{x: 1}], y: 2}\nc: {<<: *b}\n", {"b": {"x": 1, "y": 2}, "c": {"x": 1, "y": 2}}),
    ("c: {<<: [{x: 1}, {y: 2}]}\nd: {<<: []}\n", {"c": {"x": 1, "y": 2}, "d": {}}),
    ("c: {'<<': 1}\n", {"c": {"<<": 1}}),
]  # fmt: skip

# The CLI refuses these too.
NOT_PLAIN = "is not a number in plain decimal digits; write it so, or quote it"
WRONG = [
    *((f"a: {text}", 1, NOT_PLAIN) for text in ("1__0", "1_", "0b-1", "1_.5", ".inf", "-.INF", ".NaN", "<<")),
    ("a: 9223372036854775808", 1, "'9223372036854775808' is no int of 64 bits and no finite float; quote it"),
    ("a: !!int b", 1, "the tag !!int is not supported on a laptop; delete it, or quote the value"),
    ("a: !!binary aGk=", 1, "the tag !!binary is not supported"),
    ("b: 1\na: !own c", 2, "the tag !own is not supported"),
    ("a: 1\n1: b", 2, "a key must be text, with one `<<` in a map; quote the key"),
    ("08: a", 1, "'08' is not a number in plain decimal digits"),
    ("true: a", 1, "a key must be text"),
    ("2013-01-01: a", 1, "a key must be text"),
    ("1.5: a", 1, "a key must be text"),
    ("[a]: b", 1, "a key must be text"),
    ("? {a: b}\n: c", 1, "a key must be text"),
    ("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a", 4, "with one `<<` in a map; quote the key or join the lists"),
    ("a: {<<: {x: 1}}", 1, "`<<` takes an alias of a map or a list of maps; write `<<: *name`"),
    ("a: {<<: ~}", 1, "`<<` takes an alias of a map"),
    ("a: &a 1\nb: {<<: *a}", 2, "`<<` takes an alias of a map"),
    ("a: &a []\nb: {<<: *a}", 2, "`<<` takes an alias of a map"),
    ("a: &a {}\nb: {<<: [*a, 1]}", 2, "`<<` takes an alias of a map"),
    ("a: &x\n  b: *x", 1, "over 100 levels"),
    ("a: 1\nb: *x", 2, "is not YAML: found undefined alias"),
    ("a", 1, "the file is not a map; write keys such as `resources:`"),
    ("# c\n- a", 2, "the file is not a map"),
    ("a:\n\tb: 1", 2, "is not YAML: found character that cannot start any token; fix the indentation"),
    ("a: |\n \tb", 2, "is not YAML: found a tab character"),
    ("a: b\n c: d", 2, "is not YAML: mapping values are not allowed in this context"),
    ("a: [1", 2, "is not YAML: did not find expected ',' or ']'"),
    ("a: 'b", 1, "is not YAML: found unexpected end of stream"),
    ("a: @b", 1, "is not YAML: found character that cannot start any token"),
    ("a: 1\nb: \x07", 2, "holds '\\x07'; delete it"),
]

# The CLI reads these.
UNSUPPORTED = [
    *(
        (f"a: {text}", 1, NOT_PLAIN)
        for text in ("010", "-010", "08", "0_10", "0o10", "0x1F", "-0X_1f", "0b101", "1_000", "1_000.5", "00.5")
    ),
    ("a: 18446744073709551616", 1, "'18446744073709551616' is no int of 64 bits"),
    ("a: 1e400", 1, "'1e400' is no int of 64 bits and no finite float; quote it"),
    ("a: 1" + 400 * "0", 1, "is no int of 64 bits"),
    ("a: 1\n---\nb: 2", 2, "starts a second document, which the CLI drops; move it to a file of its own"),
    ("a: 1\n---\n", 2, "starts a second document"),
    ("{a: 1}\nb: 2", 2, "is not YAML: did not find expected <document start>"),
    ("a:\n  # b\n \t# c\n  d: 1", 3, "is not YAML: found character that cannot start any token"),
    ("2013-99-99: a", 1, "a key must be text"),
    ('a: "it\\\'s"', 1, "is not YAML: found unknown escape character"),
    ("{a:, b: c}", 1, "is not YAML: found unexpected ':'"),
    ("a: &x 1\nb: &x 2", 2, "is not YAML: "),
    ("a: &a {x: 1}\nc: {!!merge d: *a}", 2, "the tag !!merge is not supported"),
    ("a: " + 101 * "[" + 101 * "]", 1, "over 100 levels are not supported on a laptop; nest less"),
]


def read(text: str | bytes, folder: Path) -> Tree:
    (folder / "f.yml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(folder, "f.yml")


def exact(value: Json) -> str:
    """Text that tells 1 from 1.0 and from true, and one order of keys from another."""
    return json.dumps(value)


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_value(text: str, value: Json, tmp_path: Path) -> None:
    assert exact(read(f"a: {text}\n", tmp_path)) == exact({"a": value})


@pytest.mark.parametrize(("text", "tree"), FILES)
def test_file(text: str, tree: Tree, tmp_path: Path) -> None:
    assert exact(read(text, tmp_path)) == exact(tree)


@pytest.mark.parametrize(("text", "line", "problem"), WRONG + UNSUPPORTED)
def test_refusal(text: str, line: int, problem: str, tmp_path: Path) -> None:
    with pytest.raises(LaptopError) as error:
        read(text, tmp_path)
    assert str(error.value).startswith(f"f.yml: line {line}: ")
    assert problem in str(error.value)
    assert "; " in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("raw", [b"a: 1\nb: \xff\n", "a: 1\nb: \u00e9\n".encode("latin-1")])
def test_other_encodings_are_refused(raw: bytes, tmp_path: Path) -> None:
    with pytest.raises(LaptopError, match=r"^f\.yml: line 2: is not UTF-8; save the file as UTF-8$"):
        read(raw, tmp_path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(LaptopError) as error:
        read_yaml(tmp_path, "databricks.yml")
    assert str(error.value) == f"databricks.yml: no such file in {tmp_path}; run this in the project's folder"


def test_aliases_are_copies(tmp_path: Path) -> None:
    tree = read("a: &x {b: [1]}\nc: *x\nd: {<<: *x}\n", tmp_path)
    tree["a"]["b"].append(2)  # type: ignore[index, call-overload, union-attr]
    assert tree == {"a": {"b": [1, 2]}, "c": {"b": [1]}, "d": {"b": [1]}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("yaml")


@given(number=st.integers(-(2**63), 2**63 - 1), plus=st.sampled_from(("", "+")))
@settings(max_examples=50, deadline=None)
def test_a_decimal_int(number: int, plus: str, folder: Path) -> None:
    assert exact(read(f"a: {'' if number < 0 else plus}{number}\n", folder)["a"]) == exact(number)


@given(number=st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=50, deadline=None)
def test_a_float(number: float, folder: Path) -> None:
    assert exact(read(f"a: {number}\n", folder)["a"]) == exact(number)


@given(text=st.text(alphabet=" \n\t:-?,[]{}#&*!|>'\"%<=~.019_axo\\\ufeff\u00e9", max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_text_is_read_or_refused_in_one_line(text: str, folder: Path) -> None:
    try:
        assert isinstance(read(text, folder), dict)
    except LaptopError as error:
        assert str(error).startswith("f.yml: line ") and "\n" not in str(error)
