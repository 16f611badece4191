"""Whether the tests notice a wrong line: `python -m bench.mutations` writes docs/mutations.md.

Lines of core/ and tasks/ are drawn at random, and each is changed in one place (a comparison, an operator, a number, a
condition, a call left out). The tests that run through that line are run on it. Which these are is what
`python3 dev.py coverage` has recorded. Source: DeMillo, Lipton and Sayward, Hints on Test Data Selection, 1978.
"""

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from coverage import CoverageData
from rich.progress import track

from flight_delays.core.markdown import table

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "flight_delays"
FOLDERS = ("core", "tasks")
PATIENCE_S = 600
MOST = 25  # tests that a mutant is run on, those that need no Spark first
SWAPPED: dict[type[ast.AST], str] = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.In: "not in",
    ast.NotIn: "in", ast.Is: "is not", ast.IsNot: "is", ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*",
    ast.FloorDiv: "*", ast.BitAnd: "|", ast.BitOr: "&", ast.And: "or", ast.Or: "and",
}  # fmt: skip

PAGE = """\
# Do the tests notice a wrong line?

Made by `python -m bench.mutations` (seed {seed}): {number} lines of `core/` and `tasks/`, drawn at random and each
changed in one place, and the tests that run through it run on that.

**{noticed} of {number} were noticed**, {share:.0%}.

{survivors}
"""


@dataclass(frozen=True)
class Mutant:
    """A file with one line changed."""

    file: Path
    line: int
    before: str
    after: str
    text: str


def main() -> None:
    """Draw, run and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    if not (ROOT / ".coverage").exists():
        sys.exit("mutations: run `python3 dev.py coverage` first, which tells what tests run through which line")
    data = CoverageData(str(ROOT / ".coverage"))
    data.read()
    files = sorted(file for folder in FOLDERS for file in (PACKAGE / folder).glob("*.py"))
    possible = [mutant for file in files for mutant in mutants(file)]
    chosen = random.Random(asked.seed).sample(possible, asked.number)  # noqa: S311

    def run(mutant: Mutant) -> bool:
        found = noticed(mutant, tests_of(data, mutant))
        said = "noticed" if found else "SURVIVED"
        print(f"{said} {mutant.file.relative_to(PACKAGE)}:{mutant.line}: {mutant.after}", flush=True)
        return found

    with ThreadPoolExecutor(asked.processes) as pool:
        results = list(track(pool.map(run, chosen), "Running tests on mutants", total=asked.number))
    survivors = [mutant for mutant, found in zip(chosen, results, strict=True) if not found]
    rows = [(f"`{one.file.relative_to(PACKAGE)}:{one.line}`", f"`{one.before}`", f"`{one.after}`") for one in survivors]
    page = PAGE.format(
        seed=asked.seed,
        number=asked.number,
        noticed=sum(results),
        share=sum(results) / asked.number,
        survivors=table(("line", "as it is", "as it survived"), rows),
    )
    (ROOT / "docs" / "mutations.md").write_text(page, encoding="utf-8")


def mutants(file: Path) -> Iterator[Mutant]:
    """Every single change of a file that is known here."""
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        for first, last, new in _changes(node):
            if node.lineno != node.end_lineno:  # type: ignore[attr-defined]
                continue
            number = node.lineno  # type: ignore[attr-defined]
            line = lines[number - 1]
            changed = line.encode()[:first].decode() + new + line.encode()[last:].decode()
            whole = "\n".join([*lines[: number - 1], changed, *lines[number:]]) + "\n"
            with suppress(SyntaxError):  # a parenthesis stood in between
                ast.parse(whole)
                yield Mutant(file=file, line=number, before=line.strip(), after=changed.strip(), text=whole)


def _changes(node: ast.AST) -> Iterator[tuple[int, int, str]]:
    """First and last byte in its line, and what is there instead."""
    match node:
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in SWAPPED:
            yield left.end_col_offset or 0, right.col_offset, f" {SWAPPED[type(op)]} "
        case ast.BinOp(left=left, op=op, right=right) if type(op) in SWAPPED:
            yield left.end_col_offset or 0, right.col_offset, f" {SWAPPED[type(op)]} "
        case ast.BoolOp(op=op, values=[left, right, *_]):
            yield left.end_col_offset or 0, right.col_offset, f" {SWAPPED[type(op)]} "
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield node.col_offset, operand.col_offset, ""
        case ast.Constant(value=bool() as value):
            yield node.col_offset, node.end_col_offset or 0, str(not value)
        case ast.Constant(value=int() | float() as value):
            yield node.col_offset, node.end_col_offset or 0, repr(value + 1)
        case ast.Expr(value=ast.Call()):
            yield node.col_offset, node.end_col_offset or 0, "pass"
        case ast.Return(value=value) if value is not None and not isinstance(value, ast.Constant):
            yield node.col_offset, node.end_col_offset or 0, "return None"
        case ast.If(test=test) if test.lineno == test.end_lineno == node.lineno:
            yield test.col_offset, test.end_col_offset or 0, f"not ({ast.unparse(test)})"
        case _:
            return


def tests_of(data: CoverageData, mutant: Mutant) -> list[str]:
    """Tests that run through the line; if it runs at import only, those that run through the file."""
    contexts = data.contexts_by_lineno(str(mutant.file))
    named = {one for one in contexts.get(mutant.line, []) if one} or {
        one for names in contexts.values() for one in names if one
    }
    ids = sorted({one.partition("|")[0] for one in named})
    random.Random(mutant.line).shuffle(ids)  # noqa: S311
    return sorted(ids, key=_needs_spark)[:MOST]


def _needs_spark(test: str) -> bool:
    return test.startswith(("tests/spark", "tests/jobs", "tests/local", "tests/faults", "tests/kafka", "laptop/tests"))


def noticed(mutant: Mutant, tests: list[str]) -> bool:
    """Whether a test fails on it, or does not end."""
    if not tests:
        return False
    with tempfile.TemporaryDirectory() as source:
        package = Path(source) / "flight_delays"
        shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
        (package / mutant.file.relative_to(PACKAGE)).write_text(mutant.text, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:cov", *tests]
        environment = {**os.environ, "PYTHONPATH": source}
        try:
            subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=PATIENCE_S, check=True)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return True
        return False


if __name__ == "__main__":
    main()
