"""What a bundle's pyproject.toml says to this tool, in [tool.bundle-laptop]; the README shows all of it.

Variables may refer to variables; secrets and commands to whatever a job may, and to ${laptop.folder}.
"""

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from bundle_laptop.errors import LaptopError

FILE = "pyproject.toml"


class Settings(BaseModel):
    """The section [tool.bundle-laptop]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_errors: tuple[str, ...] = ()
    check: str = ""
    after_run: tuple[str, ...] = ()
    variables: dict[str, str] = {}
    secrets: dict[str, str] = {}
    commands: dict[str, str] = {}


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
        problem = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
        raise LaptopError(f"{FILE}: {key}: {problem}; known keys are {', '.join(Settings.model_fields)}") from None
