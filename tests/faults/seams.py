"""Adapters that fail: a task is killed before its n-th write, whatever that writes, and is run again."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from flight_delays.platform.context import Context
from flight_delays.platform.registry import Registry, Training
from flight_delays.platform.tables import Tables


class KilledError(BaseException):
    """The process is gone: nothing catches this."""


@dataclass
class Killer:
    """Lets writes pass until the n-th, before which it kills; 0 kills nobody. Keeps the names of all."""

    before: int = 0
    writes: list[str] = field(default_factory=list)

    TABLES: ClassVar = {
        *("append", "append_decision", "append_new", "append_once", "apply_ddl", "complete", "optimize", "upsert"),
        "widen",
    }
    CLIENT: ClassVar = ("create_", "delete_", "log_", "set_", "update_")  # of MLflow: too many to name

    def write(self, name: str, do: Callable[[], Any]) -> Any:
        self.writes.append(name)
        if len(self.writes) == self.before:
            raise KilledError(name)
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
        return lambda *given, **named: self._killer.write(name, lambda: found(*given, **named))


@dataclass(frozen=True)
class Registering(Registry):
    """A registry; what MLflow's own functions log of a run counts as one write, its end as another."""

    killer: Killer

    def register(self, experiment: str, name: str, training: Training) -> int:
        """Log a run with its model."""
        return int(self.killer.write("register", lambda: super(Registering, self).register(experiment, name, training)))


def writes_of(task: Callable[[Context], None], context: Context) -> list[str]:
    """What an undisturbed run of a task writes."""
    killer = Killer()
    task(killer.around(context))
    return killer.writes


def killed_before(number: int, task: Callable[[Context], None], context: Context) -> str | None:
    """Run a task and kill it before its n-th write: which that was; None if it has come to its end before."""
    try:
        task(Killer(number).around(context))
    except KilledError as killed:
        return str(killed)
    return None
