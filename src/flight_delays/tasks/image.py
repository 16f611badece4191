"""Write the build context of a version's container image, and note on the version which image was made of it."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from rich.console import Console

from flight_delays.core.errors import UserError
from flight_delays.core.image import (
    Labels,
    Package,
    arguments,
    bill_of_materials,
    check_image,
    differences,
    locked,
    python_of,
    tag_of,
    with_arguments,
)
from flight_delays.core.settings import Image, ImageMade
from flight_delays.platform.registry import IMAGE, Registry, digest_of
from flight_delays.tasks.printing import show

SBOM = "sbom.cdx.json"
MEANINGS = {
    "Dockerfile": "how it is built; its arguments are filled in",
    "model": "the version's files",
    "requirements.txt": "packages to install, with hashes",
    SBOM: "what is in it, CycloneDX",
}


def run(
    registry: Registry, settings: Image, *, created: datetime, check: Callable[[Path], object], console: Console
) -> None:
    """Write the context to `settings.folder`, whole or not at all, and print how to build it.

    `check` loads a downloaded version as the service does. Raises UserError for a version that it refuses, for one
    that needs a package which the image lacks, and for files that are missing or in the way.
    """
    python = python_of(settings.base_image)
    folder = settings.folder
    if folder.exists():
        raise UserError(f"{folder} exists already; delete it, or name another --folder")
    wheel = _wheel(settings.wheel)
    dockerfile, lock = _text(settings.dockerfile), _text(settings.requirements)
    packages = locked(lock, python)
    version = registry.version(settings.model_name, settings.model_version)
    labels = Labels(
        model_name=version.name,
        model_version=version.number,
        run_id=version.run_id,
        commit=version.tags.get("git_commit", "unknown"),
        created=created,
    )
    dockerfile = with_arguments(dockerfile, arguments(settings.base_image, labels))
    with _written_whole(folder) as unfinished:
        model = unfinished / "model"
        shutil.move(registry.download(version.name, version.number, unfinished / "download"), model)
        shutil.rmtree(unfinished / "download", ignore_errors=True)
        others = differences(_text(model / "requirements.txt").split("\n"), packages)
        check(model)
        for cache in [*model.rglob("__pycache__")]:
            shutil.rmtree(cache)
        shutil.copy(wheel, unfinished)
        (unfinished / "Dockerfile").write_text(dockerfile, encoding="utf-8")
        (unfinished / "requirements.txt").write_text(lock, encoding="utf-8")
        sbom = bill_of_materials(
            labels,
            packages,
            base_image=settings.base_image,
            wheel=Package(name=wheel.name.split("-")[0].replace("_", "-"), version=wheel.name.split("-")[1]),
            wheel_digest=sha256(wheel.read_bytes()).hexdigest(),
            model_digest=digest_of([model]),
        )
        (unfinished / SBOM).write_text(json.dumps(sbom, indent=2) + "\n", encoding="utf-8")
    title = f"{folder}: {version.name} version {version.number}, checked by its golden requests"
    rows = [(one.name, MEANINGS.get(one.name, "this project"), _size(one)) for one in sorted(folder.iterdir())]
    show(console, title, ("file", "what", "kB"), rows, decimals=1)
    if others:
        console.print(f"In another version than at training, so the build checks the answers: {'; '.join(others)}.")
    tag = tag_of(labels)
    console.print(f"{len(packages)} packages. Build it by one of:", soft_wrap=True)
    console.print(f"  docker build --tag {tag} {folder}", soft_wrap=True)
    console.print(f"  az acr build --registry <name> --image {tag} {folder}", soft_wrap=True)


def note(registry: Registry, settings: ImageMade) -> str:
    """Set the version's tag that a rollout reads. Returns a line that says so."""
    check_image(settings.image)
    version = registry.version(settings.model_name, settings.model_version)
    registry.tag_version(version, {IMAGE: settings.image})
    return f"{version.name} version {version.number} is served by {settings.image}"


def _wheel(given: Path | None) -> Path:
    if given is not None:
        if not given.is_file() or given.suffix != ".whl":
            raise UserError(f"{given} is no wheel; build one by uv build --wheel --clear")
        return given
    found = sorted(Path("dist").glob("*.whl"))
    if len(found) != 1:
        raise UserError(f"dist/ has {len(found)} wheels; build one by uv build --wheel --clear, or name it by --wheel")
    return found[0]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); run this in the project's folder") from None


@contextmanager
def _written_whole(folder: Path) -> Iterator[Path]:
    """A folder that becomes `folder` at the end; nothing is left of it if that is not reached."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); name another --folder") from None
    try:
        yield unfinished
        unfinished.chmod(0o755)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _size(path: Path) -> float:
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files) / 1000
