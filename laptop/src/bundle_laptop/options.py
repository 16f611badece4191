"""The arguments of wheel tasks, as far as they are known before a run."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from importlib import import_module

from bundle_laptop.calls import is_by_user
from bundle_laptop.expressions import Expression, facts, fill_in
from bundle_laptop.plan import Plan, task_path


def known_arguments(plan: Plan, given: Mapping[str, str]) -> Iterator[tuple[str, str, list[str]]]:
    """Of each wheel task its job, its key and its arguments, less those that only a run can fill in.

    `given` are the parameters of the run, for each job that has them.
    """
    now = facts(job="", name="", run="", task="", started=datetime.now(tz=UTC))

    def filled(text: str, parameters: Mapping[str, str]) -> str:
        def value(expression: Expression) -> str:
            # An empty parameter may be given by the job that runs this one.
            if expression.kind == "parameter" and (text := parameters[expression.name]):
                return filled(text, {})
            if expression.kind != "fact":
                raise LookupError
            return now[expression.name]

        return fill_in(text, value)

    for key, job in plan.jobs.items():
        own = {name: given.get(name, parameter.default) for name, parameter in job.parameters.items()}
        for task_key, task in job.tasks.items():
            known = []
            for argument in task.python_wheel_task.arguments if task.python_wheel_task else ():
                try:
                    known.append(filled(argument, own))
                except LookupError:
                    continue
            if known:
                yield key, task_key, known


def option_values(plan: Plan) -> dict[str, str]:
    """What the bundle gives the options of its wheel tasks, by their names in snake case; of several what most get."""
    found: dict[str, Counter[str]] = {}
    for _, _, arguments in known_arguments(plan, {}):
        for name, _, text in (argument.removeprefix("--").partition("=") for argument in arguments):
            if text:
                found.setdefault(name.replace("-", "_"), Counter())[text] += 1
    return {name: texts.most_common(1)[0][0] for name, texts in found.items()}


def check_arguments(plan: Plan, given: Mapping[str, str], check: str, user_errors: Collection[str]) -> None:
    """Call the project's `check` (module:function) with the known arguments of each wheel task.

    Raises LaptopError for the first that it refuses, by one of `user_errors`.
    """
    module, _, name = check.partition(":")
    function = getattr(import_module(module), name)
    for job, task, arguments in known_arguments(plan, given):
        try:
            function(arguments)
        except Exception as error:
            if is_by_user(error, user_errors):
                path = (*task_path(job, task), "python_wheel_task", "parameters")
                raise plan.bundle.error(path, str(error)) from None
            raise
