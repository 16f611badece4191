"""What a bundle's pyproject.toml says to this tool, in [tool.bundle-laptop]; all of it may be left out.

    [tool.bundle-laptop]
    user_errors = ["my_package.errors.UserError"]      # shown in one line, never retried
    check = "my_package.cli:check"                     # told the arguments of each wheel task before anything starts
    after_run = ["report"]                             # commands that end every `laptop run`
    [tool.bundle-laptop.variables]                     # as if given by --var: local Spark has one catalog
    catalog = "spark_catalog"                          # of a complex one, a reference to another: "${var.job_cluster}"
    [tool.bundle-laptop.secrets]                       # scope/key
    "${resources.secret_scopes.main.name}/store" = "${laptop.online_store}"
    [tool.bundle-laptop.commands]                      # laptop <name>, short for laptop exec <name>
    report = "my-package report --schema=${resources.schemas.main.id}"

Variables may refer to variables; secrets and commands to whatever a job may, and to ${laptop.folder}.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bundle_laptop.errors import LaptopError

FILE = "pyproject.toml"


class Settings(BaseModel):
    """The section [tool.bundle-laptop]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_errors: tuple[str, ...] = ()
    check: str = ""
    after_run: tuple[str, ...] = ()
    variables: Mapping[str, str] = Field(default_factory=dict)
    secrets: Mapping[str, str] = Field(default_factory=dict)
    commands: Mapping[str, str] = Field(default_factory=dict)


def read_settings(root: Path) -> Settings:
    """Those of the bundle in `root`. Raises LaptopError naming the key that is wrong."""
    file = root / FILE
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        return Settings.model_validate(tree.get("tool", {}).get("bundle-laptop", {}))
    except tomllib.TOMLDecodeError as error:
        raise LaptopError(f"{FILE}: invalid TOML: {error}") from None
    except ValidationError as invalid:
        first = invalid.errors()[0]
        key = ".".join(map(str, ("tool", "bundle-laptop", *first["loc"])))
        known = ", ".join(Settings.model_fields)
        problem = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
        raise LaptopError(f"{FILE}: {key}: {problem}; known keys are {known}") from None
