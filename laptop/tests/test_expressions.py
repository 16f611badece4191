"""The `{{...}}` of a job."""

from datetime import UTC, datetime

import pytest

from bundle_laptop.expressions import FACTS, Expression, as_parameter, expressions, facts, fill_in


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("no { braces }", []),
        ("{{job.parameters.day}}", [Expression("parameter", "day")]),
        ("--day={{job.parameters.a-b.c_d}}!", [Expression("parameter", "a-b.c_d")]),
        ("{{tasks.load-words.values.rows}}", [Expression("value", "rows", of="load-words")]),
        ("{{input}}{{input.word}}", [Expression("input", ""), Expression("input", "word")]),
        ("{{job.run_id}} {{task.name}}", [Expression("fact", "job.run_id"), Expression("fact", "task.name")]),
    ],
)
def test_expressions_are_found_in_a_text(text: str, found: list[Expression]) -> None:
    assert list(expressions(text)) == found


@pytest.mark.parametrize(
    "text",
    ["{{ job.id }}", "{{job.trigger.type}}", "{{}}", "{{tasks.t.result_state}}", "{{input.a.b}}", "{{job.parameters}}"],
)
def test_an_expression_that_is_not_supported_is_named(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        list(expressions(f"a {text} b"))
    assert str(refused.value) == f"{text} is not supported on a laptop"


def test_open_braces_are_noticed() -> None:
    with pytest.raises(ValueError, match=r"^'a \{\{job\.id' has an unclosed \{\{$"):
        list(expressions("a {{job.id"))


def test_each_expression_is_replaced_by_its_value() -> None:
    values = {Expression("parameter", "a"): "1", Expression("fact", "job.id"): "{{input}}"}
    assert fill_in("{{job.parameters.a}}, {{job.id}}, {{job.parameters.a}}", lambda each: values[each]) == (
        "1, {{input}}, 1"
    )


def test_what_a_run_knows_of_itself() -> None:
    started = datetime(2025, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC)
    known = facts(job="j", name="[dev local] j", run="7", task="t", started=started)
    date, moment = "2025-01-02", "2025-01-02T03:04:05Z"
    assert {*known} == {*FACTS}
    assert [known[name] for name in FACTS] == ["j", "[dev local] j", "7", "t", date, moment, date, moment]


@pytest.mark.parametrize(
    ("value", "text"), [("a b", "a b"), ("", ""), (3, "3"), (0.5, "0.5"), (True, "true"), (False, "false")]
)
def test_a_plain_task_value_is_a_text(value: object, text: str) -> None:
    assert as_parameter(value) == text


@pytest.mark.parametrize(("value", "kind"), [([1], "list"), ({}, "dict"), (None, "NoneType")])
def test_another_task_value_is_none(value: object, kind: str) -> None:
    with pytest.raises(ValueError, match=f"^is a {kind}; only strings, numbers and booleans are supported on a laptop"):
        as_parameter(value)
