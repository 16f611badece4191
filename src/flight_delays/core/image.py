"""The container image of one version: what it is made of, and what is said of it. Pure; tasks/image.py writes it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import NAMESPACE_URL, uuid5

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from flight_delays.core.errors import UserError

_BASE = re.compile(r"(?:[\w./:-]+/)?python:(?P<python>3\.\d+)(?:\.\d+)?-slim[\w.-]*@sha256:[0-9a-f]{64}")
_IMAGE = re.compile(r"[a-z0-9][a-z0-9.-]*(?::\d+)?(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)+@sha256:[0-9a-f]{64}")
_LOCKED = re.compile(
    r"^(?P<name>[\w.-]+)(?:\[[\w,.-]+\])?==(?P<version>[^\s;\\]+)(?:\s*;\s*(?P<marker>[^\\\n]+))?", re.M
)
# What stands in for a package that a version asks for: the service needs MLflow's models, not its server.
_INSTEAD = {"mlflow": "mlflow-skinny"}


@dataclass(frozen=True, kw_only=True)
class Package:
    """A Python package of an image."""

    name: str
    version: str


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Where an image comes from: the version, the run that made it and the commit of its training, if known."""

    model_name: str
    model_version: int
    run_id: str
    commit: str
    created: datetime


def python_of(base_image: str) -> str:
    """The Python of a base image, like 3.12. Raises UserError unless it is a slim one of Python, by its digest."""
    found = _BASE.fullmatch(base_image)
    if found is None:
        raise UserError(
            f"base_image is {base_image!r}; give a slim image of Python with its digest, like "
            "python:3.12-slim-bookworm@sha256:<64 hexadecimal digits>"
        )
    return found["python"]


def check_image(image: str) -> None:
    """Raises UserError unless `image` is <registry>/<repository>@sha256:<digest>."""
    if not _IMAGE.fullmatch(image):
        raise UserError(
            f"image is {image!r}; give <registry>/<repository>@sha256:<64 hexadecimal digits>: a tag can be moved"
        )


def locked(lock: str, python: str) -> tuple[Package, ...]:
    """The packages that a lock installs on Linux with this Python."""
    there = {
        **{"implementation_name": "cpython", "platform_python_implementation": "CPython", "extra": ""},
        **{"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
        **{"python_version": python, "python_full_version": f"{python}.0"},
    }
    return tuple(
        Package(name=canonicalize_name(one["name"]), version=one["version"])
        for one in _LOCKED.finditer(lock)
        if one["marker"] is None or Marker(one["marker"]).evaluate(there)
    )


def differences(wanted: Iterable[str], packages: Sequence[Package]) -> tuple[str, ...]:
    """What the image has in another version than the `wanted` lines of the model's requirements.txt.

    Raises UserError for a package that the image lacks.
    """
    has = {package.name: package.version for package in packages}
    found: list[str] = []
    for line in filter(None, wanted):
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            raise UserError(f"the version's requirements.txt says {line!r}, which is no requirement") from None
        asked = canonicalize_name(requirement.name)
        name = asked if asked in has else _INSTEAD.get(asked, asked)
        if name not in has:
            raise UserError(
                f"the version needs {requirement.name}, which the image lacks; add it to the group image of "
                "pyproject.toml and run: python3 dev.py lock"
            )
        if not requirement.specifier.contains(has[name], prereleases=True):
            found.append(f"{name} {has[name]}, trained with {str(requirement.specifier).removeprefix('==')}")
    return tuple(found)


def with_arguments(dockerfile: str, values: Mapping[str, str]) -> str:
    """The Dockerfile with the default of each named ARG. Raises UserError for an ARG that it lacks."""
    for name, value in values.items():
        line = f"ARG {name}"
        if line not in dockerfile.splitlines():
            raise UserError(f"the Dockerfile has no line {line}; add it")
        quoted = re.sub(r'(["\\$])', r"\\\1", value)
        dockerfile = "\n".join(f'{line}="{quoted}"' if one == line else one for one in dockerfile.split("\n"))
    return dockerfile


def arguments(base_image: str, labels: Labels) -> dict[str, str]:
    """The values of the Dockerfile's arguments."""
    return {
        "BASE_IMAGE": base_image,
        "MODEL_NAME": labels.model_name,
        "MODEL_VERSION": str(labels.model_version),
        "RUN_ID": labels.run_id,
        "COMMIT": labels.commit,
        "CREATED": labels.created.isoformat(timespec="seconds"),
    }


def tag_of(labels: Labels) -> str:
    """Name and tag of the image within a registry: the model's own name, without its schema."""
    name = re.sub(r"[^a-z0-9]+", "-", labels.model_name.rpartition(".")[2].lower()).strip("-")
    return f"{name or 'model'}:{labels.model_version}"


def bill_of_materials(
    labels: Labels,
    packages: Iterable[Package],
    *,
    base_image: str,
    wheel: Package,
    wheel_digest: str,
    model_digest: str,
) -> dict[str, object]:
    """The SBOM, in CycloneDX 1.5: base image, packages, the project's wheel and the model. A digest is a SHA-256."""
    image = tag_of(labels)
    base_name, _, base_digest = base_image.partition("@sha256:")
    parts: list[dict[str, object]] = [
        _component("container", base_name, base_digest, digest=base_digest),
        *(_component("library", one.name, one.version, purl=_purl(one)) for one in packages),
        _component("library", wheel.name, wheel.version, purl=_purl(wheel), digest=wheel_digest),
        _component("machine-learning-model", labels.model_name, str(labels.model_version), digest=model_digest),
    ]
    whole = _component("container", image.partition(":")[0], str(labels.model_version))
    whole["properties"] = [{"name": "run_id", "value": labels.run_id}, {"name": "git_commit", "value": labels.commit}]
    # One identity for one content.
    identity = "|".join([image, labels.created.isoformat(), *(str(part["bom-ref"]) for part in parts), model_digest])
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, identity)}",
        "version": 1,
        "metadata": {"timestamp": labels.created.isoformat(timespec="seconds"), "component": whole},
        "components": parts,
        "dependencies": [{"ref": whole["bom-ref"], "dependsOn": [part["bom-ref"] for part in parts]}],
    }


def _component(
    kind: str, name: str, version: str, *, purl: str | None = None, digest: str | None = None
) -> dict[str, object]:
    found: dict[str, object] = {
        "type": kind,
        "bom-ref": purl or f"{kind}:{name}@{version}",
        "name": name,
        "version": version,
    }
    if purl:
        found["purl"] = purl
    if digest:
        found["hashes"] = [{"alg": "SHA-256", "content": digest}]
    return found


def _purl(package: Package) -> str:
    return f"pkg:pypi/{package.name}@{package.version.replace('+', '%2B')}"
