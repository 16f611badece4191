"""Adapters that fail: a task is killed before one of its writes, whatever that writes, and is run again."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from flight_delays.platform.context import Context
from flight_delays.platform.delta import Tables
from flight_delays.platform.registry import Registry, Training


class KilledError(BaseException):
    """The process is gone: nothing catches this."""


@dataclass
class Killer:
    """Kills before the first write for which `kills` says so, told what came before it and that itself."""

    kills: Callable[[list[str]], bool] = lambda _: False
    writes: list[str] = field(default_factory=list)

    TABLES: ClassVar = {
        *("append", "append_new", "append_once", "apply_ddl", "complete", "optimize", "upsert"),
        "widen",
    }
    CLIENT: ClassVar = ("create_", "delete_", "log_", "set_", "update_")  # of MLflow: too many to name

    def write(self, what: str, do: Callable[[], Any]) -> Any:
        self.writes.append(what)
        if self.kills(self.writes):
            raise KilledError(what)
        return do()

    def of_tables(self, tables: Tables) -> Any:
        """Tables each write of which passes by here."""
        return Seam(tables, self, self.TABLES.__contains__)

    def around(self, context: Context) -> Context:
        """The same adapters, each write of which passes by here."""
        return replace(
            context,
            tables=self.of_tables(context.tables),
            decisions=Seam(context.decisions, self, {"append"}.__contains__),
            registry=Registering(Seam(context.registry.client, self, lambda name: name.startswith(self.CLIENT)), self),
            endpoints=lambda: Seam(context.endpoints(), self, {"configure"}.__contains__),
        )


class Seam:
    """An adapter whose writes pass by a killer."""

    def __init__(self, of: Any, killer: Killer, writes: Callable[[str], bool]) -> None:
        self._of, self._killer, self._writes = of, killer, writes

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._of, name)
        if not self._writes(name):
            return found

        def write(*given: Any, **named: Any) -> Any:
            what = f"{name} {given[0]}" if given and isinstance(given[0], str) else name
            return self._killer.write(what, lambda: found(*given, **named))

        return write


@dataclass(frozen=True)
class Registering(Registry):
    """A registry; what MLflow's own functions log of a run counts as one write, its end as another."""

    killer: Killer

    def register(self, experiment: str, name: str, training: Training) -> int:
        """Log a run with its model."""
        return int(self.killer.write("register", lambda: super(Registering, self).register(experiment, name, training)))


def writes_of(task: Callable[[Context], None], context: Context) -> list[str]:
    """What an undisturbed run of a task writes: functions of adapters, each with the name that it is given first."""
    killer = Killer()
    task(killer.around(context))
    return killer.writes


def killed(kills: Callable[[list[str]], bool], task: Callable[[Context], None], context: Context) -> str | None:
    """Run a task and kill it: before which write that was; None if it came to its end."""
    try:
        task(Killer(kills).around(context))
    except KilledError as error:
        return str(error)
    return None


def killed_at_each(
    writes: Sequence[str], what: str, task: Callable[[str], Callable[[Context], None]], make: Callable[[str], Context]
) -> Iterator[tuple[str, Context, str]]:
    """For each write of a task a world in which it was killed there: the world's name, itself, and which write."""
    for number, write in enumerate(writes, 1):
        name = f"{what} killed before {number}"
        context = make(name)
        assert killed(lambda writes, number=number: len(writes) == number, task(name), context)
        yield name, context, f"killed before write {number}, {write}"
