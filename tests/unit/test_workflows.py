"""What the workflows name exists, and none of them may or does more than it must."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dev import COMMANDS

from flight_delays.cli import app
from flight_delays.core.settings import AzuremlRegister, Stage, option_of, settings_of

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = {path.name: path.read_text() for path in sorted(FOLDER.iterdir())}
TARGETS = set(yaml.safe_load((ROOT / "databricks.yml").read_text())["targets"])
RESOURCES = [yaml.safe_load(path.read_text())["resources"] for path in (ROOT / "resources").glob("*.yml")]
BUNDLE_JOBS = {key for resources in RESOURCES for key in resources.get("jobs", {})}

TRIGGERS = {"pull_request", "merge_group", "workflow_call", "push", "workflow_dispatch"}
WORKFLOW_KEYS = {"name", True, "permissions", "concurrency", "jobs"}  # YAML reads the key `on` as true
CALL_KEYS = {"permissions", "uses"}
JOB_KEYS = {"needs", "if", "runs-on", "timeout-minutes", "environment", "permissions", "env", "steps"}
STEP_KEYS = {"uses", "with", "run"}
READ = {"contents": "read"}
LOGIN = {"contents": "read", "id-token": "write"}
NOT_A_FORK = "github.event_name != 'pull_request' || github.event.pull_request.head.repo.full_name == github.repository"
BASE = "${{ github.event.pull_request.base.sha }}"
SERVICE_PRINCIPAL = {
    "DATABRICKS_AUTH_TYPE": "github-oidc",
    "DATABRICKS_HOST": "${{ vars.DATABRICKS_HOST }}",
    "DATABRICKS_CLIENT_ID": "${{ vars.DATABRICKS_CLIENT_ID }}",
    "BUNDLE_VAR_service_principal": "${{ vars.DATABRICKS_CLIENT_ID }}",
}
IMAGE_OF_A_VERSION = {
    "DATABRICKS_AUTH_TYPE": "github-oidc",
    "DATABRICKS_HOST": "${{ vars.DATABRICKS_HOST }}",
    "DATABRICKS_CLIENT_ID": "${{ vars.DATABRICKS_CLIENT_ID }}",
    "MODEL_NAME": "${{ inputs.model_name }}",
    "MODEL_VERSION": "${{ inputs.model_version }}",
    "ACR_NAME": "${{ vars.ACR_NAME }}",
    "REPOSITORY": "${{ vars.ACR_NAME }}.azurecr.io/flight-delays-${{ inputs.environment }}",
    "BASE": "docker.io/library/python:3.12-slim-bookworm",
}
# In this order: nothing is pushed before it was scanned, and no version is told of an image that is not signed.
IMAGE_STEPS = r"""
docker buildx imagetools inspect "$BASE" --format '{{.Manifest.Digest}}' > base-digest
.venv/bin/flight-delays image --model-name "$MODEL_NAME" --model-version "$MODEL_VERSION" --base-image "$BASE@$(cat base-digest)" --folder build/image
docker buildx create --use
docker buildx build --provenance mode=max --metadata-file build/metadata.json --output type=oci,dest=build/image.tar build/image
go run github.com/anchore/grype/cmd/grype@<version> --only-fixed --fail-on high oci-archive:build/image.tar
az acr login --name "$ACR_NAME"
skopeo copy --all --preserve-digests oci-archive:build/image.tar "docker://$REPOSITORY:$MODEL_VERSION"
jq --join-output '"\(env.REPOSITORY)@\(."containerimage.digest")"' build/metadata.json > build/name
go run github.com/sigstore/cosign/v3/cmd/cosign@<version> sign --yes "$(cat build/name)"
go run github.com/sigstore/cosign/v3/cmd/cosign@<version> attest --yes --type cyclonedx --predicate build/image/sbom.cdx.json "$(cat build/name)"
.venv/bin/flight-delays image-made --model-name "$MODEL_NAME" --model-version "$MODEL_VERSION" --image "$(cat build/name)"
"""  # noqa: E501
IMAGE_COMMANDS = [shlex.split(line) for line in IMAGE_STEPS.strip().splitlines()]
BUNDLES_PYTHON = [
    ["uv", "venv"],
    ["uv", "pip", "sync", "--require-hashes", "requirements/deploy.txt"],
    ["uv", "pip", "install", "--no-deps", "--editable", "."],
]
AZURE = {
    "AZURE_TOKEN_CREDENTIALS": "AzureCliCredential",
    "DATABRICKS_AUTH_TYPE": "github-oidc",
    "DATABRICKS_CLIENT_ID": "${{ vars.DATABRICKS_CLIENT_ID }}",
    "DATABRICKS_HOST": "${{ vars.DATABRICKS_HOST }}",
    "ENDPOINT": "${{ vars.AZUREML_ENDPOINT }}",
    "MODEL_NAME": "${{ vars.MODEL_NAME }}",
    "MODEL_VERSION": "${{ inputs.model_version }}",
    "RESOURCE_GROUP": "${{ vars.AZURE_RESOURCE_GROUP }}",
    "WORKSPACE": "${{ vars.AZUREML_WORKSPACE }}",
    "WORKSPACE_ADDRESS": "azureml://${{ vars.AZURE_SUBSCRIPTION_ID }}/${{ vars.AZURE_RESOURCE_GROUP }}/"
    "${{ vars.AZUREML_WORKSPACE }}",
}
AKS = {
    "CLUSTER": "${{ vars.AKS_CLUSTER }}",
    "DATABRICKS_AUTH_TYPE": "github-oidc",
    "DATABRICKS_CLIENT_ID": "${{ vars.DATABRICKS_CLIENT_ID }}",
    "DATABRICKS_HOST": "${{ vars.DATABRICKS_HOST }}",
    "ENDPOINT": "kubernetes://scoring/delay",
    "FLIGHT_DELAYS_SERVING_TOKEN_FILE": "tokens",
    "MODEL_NAME": "${{ vars.MODEL_NAME }}",
    "MODEL_VERSION": "${{ inputs.model_version }}",
    "RESOURCE_GROUP": "${{ vars.AZURE_RESOURCE_GROUP }}",
}
ON_AZURE = {"stage": Stage, "azureml-register": AzuremlRegister}  # commands, by their settings
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def faults(text: str) -> list[str]:
    """All that is wrong with a workflow; what this does not understand is a fault too, until somebody teaches it."""
    tree = yaml.safe_load(text)
    found = _unknown("workflow", tree, WORKFLOW_KEYS) + _unknown("trigger", tree[True], TRIGGERS)
    if tree.get("permissions") != {}:
        found.append("permissions: the workflow itself must have none")
    if "group" not in tree.get("concurrency", {}):
        found.append("concurrency: no group")
    for line in re.findall(r"uses: (.+)", text):
        if not (PINNED.fullmatch(line) or (line.startswith("./") and (ROOT / line.split()[0]).is_file())):
            found.append(f"uses: {line} is neither pinned to a commit with its version nor a file of this repository")
    for name, job in tree["jobs"].items():
        found += [f"{name}: {fault}" for fault in (_call_faults(job) if "uses" in job else _job_faults(tree, job))]
    return found


def _call_faults(job: dict[str, Any]) -> list[str]:
    return _unknown("call", job, CALL_KEYS) + ([] if job.get("permissions") in (READ, LOGIN) else ["permissions"])


def _job_faults(tree: dict[Any, Any], job: dict[str, Any]) -> list[str]:
    steps, commands = job.get("steps", []), commands_of(job)
    actions = [step["uses"].partition("@")[0] for step in steps if "uses" in step]
    bundle = [words for words in commands if words[:2] == ["databricks", "bundle"]]
    verbs, targets = [words[2] for words in bundle], {words[words.index("-t") + 1] for words in bundle}
    deploys = set(verbs) - {"validate"} != set()
    environment = (targets if deploys else {"validate"}) if bundle else {None}
    images = [words for words in commands if _step_of_an_image(words) is not None]
    environment = {"${{ inputs.environment }}"} if images else environment
    azure = any("az" in words for words in commands) and not images
    aks = any("aks" in words for words in commands)
    if azure:
        environment = {"staging" if any("stage" in words for words in commands) else "prod"}
    variables = {"bundle": SERVICE_PRINCIPAL, "image": IMAGE_OF_A_VERSION, "aks": AKS, "azure": AZURE}
    kind = "bundle" if bundle else "image" if images else "aks" if aks else "azure" if azure else ""
    wanted = {
        "runs-on: a fixed version": re.fullmatch(r"ubuntu-\d\d\.\d\d", job.get("runs-on", "")),
        "timeout-minutes": isinstance(job.get("timeout-minutes"), int),
        "permissions": job.get("permissions") == (LOGIN if kind else READ),
        "env": job.get("env") == variables.get(kind),
        "environment: that of its one target": {job.get("environment")} == environment,
        "if: not a fork": job.get("if") == (NOT_A_FORK if bundle and "pull_request" in tree[True] else None),
        "the checkout comes first": actions[:1] == ["actions/checkout"],
        "databricks is installed": "databricks/setup-cli" in actions or not bundle,
        "uv is installed": "astral-sh/setup-uv" in actions or not bundle,
        "the bundle's Python comes first": commands[:3] == BUNDLES_PYTHON or not bundle,
        "validate, plan, deploy, run": re.fullmatch("validate plan deploy( run)+( plan deploy)?", " ".join(verbs))
        or not deploys,
        "what is deployed is a plan that was checked": not deploys or _deploys_what_was_checked(commands),
        "build, scan, push, sign, note": [*map(_step_of_an_image, images)] in ([], [*range(len(IMAGE_COMMANDS))]),
        "needs: ci.yml": not deploys or _after_ci(tree, job),
        "azure: signed in, and production after staging": not azure
        or ("azure/login" in actions and job.get("needs") == (None if environment == {"staging"} else "staging")),
        "cancel-in-progress: false": not deploys or tree["concurrency"].get("cancel-in-progress") is False,
    }
    found = _unknown("job", job, JOB_KEYS) + [what for what, holds in wanted.items() if not holds]
    for step in steps:
        found += _unknown("step", step, STEP_KEYS)
        found += [f"no path {value}" for value in step.get("with", {}).values() if not _exists(value)]
    return found + [f"not understood: {shlex.join(words)}" for words in commands if not understood(words)]


def commands_of(job: dict[str, Any]) -> list[list[str]]:
    lines = [line for step in job.get("steps", []) for line in step.get("run", "").splitlines()]
    return [shlex.split(line) for line in lines]


def _step_of_an_image(words: list[str]) -> int | None:
    """Which one it is."""
    known = [re.sub(r"@v\d+\.\d+\.\d+$", "@<version>", word) for word in words]
    return IMAGE_COMMANDS.index(known) if known in IMAGE_COMMANDS else None


def understood(words: list[str]) -> bool:
    """Whether a command is one of those below, and what it names exists."""
    if _step_of_an_image(words) is not None:
        return True
    match words:
        case [".venv/bin/uv", "build", "--wheel", "--clear"]:
            return True
        case ["python3", "dev.py", command]:
            return command in COMMANDS
        case ["uv", *_]:
            return words in BUNDLES_PYTHON
        case ["go", "run", module]:
            return re.fullmatch(r"[\w./-]+@v\d+\.\d+\.\d+", module) is not None
        case ["databricks", "bundle", "validate", "--strict", "-t", target]:
            return target in TARGETS
        case ["databricks", "bundle", "plan", "-t", target, "-o", "json", ">", "plan.json"]:
            return target in TARGETS
        case [".venv/bin/flight-delays", "plan-check", "plan.json"]:
            return True
        case ["databricks", "bundle", "deploy", "-t", target, "--plan", "plan.json"]:
            return target in TARGETS
        case ["databricks", "bundle", "run", job, "-t", target]:
            return job in BUNDLE_JOBS and target in TARGETS
        case [".venv/bin/flight-delays", "--target", target, "remove-artifacts"]:
            return target in TARGETS
        case [".venv/bin/laptop", "run", *jobs, "--var", "trials=1"] | [".venv/bin/laptop", "run", *jobs]:
            names = [*jobs, "--only"][: [*jobs, "--only"].index("--only")]
            return {*names} <= BUNDLE_JOBS and jobs[len(names) :] in ([], ["--only", "train"])
        case ["sudo", "az", "aks", *_] | ["az", "aks", *_] | ["kubelogin" | "kubectl" | ".venv/bin/helm", *_]:
            return _on_aks(shlex.join(words))
        case ["az", *rest]:
            return _on_azure(shlex.join(rest))
        case [".venv/bin/flight-delays", command, *options] if command in ON_AZURE:
            known = settings_of(ON_AZURE[command])
            given = dict(zip(options[::2], options[1::2], strict=True))
            return given.keys() == {*map(option_of, known)} and all(map(_is_set, given.values()))
        case [".venv/bin/laptop", "model-diff", "--file", "$GITHUB_STEP_SUMMARY"]:
            return True
    return False


def _on_azure(line: str) -> bool:
    file = "deploy/azureml/endpoint.yml"
    named = "--name '$ENDPOINT'"
    return (ROOT / file).is_file() and line in {
        "account get-access-token --resource https://ml.azure.com --output none",
        "extension add --name ml --yes",
        "configure --defaults 'group=$RESOURCE_GROUP' 'workspace=$WORKSPACE'",
        f"ml online-endpoint show {named} '||' az ml online-endpoint create {named} --file {file}",
    }


def _on_aks(line: str) -> bool:
    # Never --atomic: it would put back what served when the chart was installed last.
    chart = "upgrade --install delay deploy/helm/scoring --namespace scoring"
    values = re.search(r"--values (\S+) ", line)
    return (values is None or (ROOT / values[1]).is_file()) and any(
        re.fullmatch(pattern, line)
        for pattern in (
            r"sudo az aks install-cli --client-version [\d.]+ --kubelogin-version v[\d.]+",
            r"az aks get-credentials --resource-group '\$RESOURCE_GROUP' --name '\$CLUSTER'",
            "kubelogin convert-kubeconfig --login azurecli",
            rf"\.venv/bin/helm {chart} --values deploy/helm/scoring/values-(staging|prod)\.yaml --wait --timeout 20m",
            r"kubectl get secret scoring-tokens --namespace scoring --output "
            r"'go-template=\{\{ \.data\.tokens \| base64decode \}\}' '>' tokens",
        )
    )


def _is_set(value: str) -> bool:
    """Whether all variables in it are set by the job."""
    return {*re.findall(r"\$(\w+)", value)} <= AZURE.keys() | AKS.keys() and "$" in value


def _deploys_what_was_checked(commands: list[list[str]]) -> bool:
    """Nothing stands between a plan, its check and its deploy."""
    verbs = [words[2] if words[:2] == ["databricks", "bundle"] else words[1] for words in commands]
    deploys = [place for place, verb in enumerate(verbs) if verb == "deploy"]
    return bool(deploys) and all(verbs[max(0, at - 2) : at] == ["plan", "plan-check"] for at in deploys)


def _after_ci(tree: dict[Any, Any], job: dict[str, Any]) -> bool:
    return tree["jobs"].get(job.get("needs"), {}).get("uses") == "./.github/workflows/ci.yml"


def _exists(value: object) -> bool:
    if isinstance(value, str) and re.fullmatch(r"\$\{\{ vars\.AZURE_[A-Z_]+ \}\}", value):
        return True
    return isinstance(value, bool) or value == BASE or (isinstance(value, str) and (ROOT / value).exists())


def _unknown(what: str, keys: Any, known: set[Any]) -> list[str]:
    return [f"unknown {what}: {key}" for key in keys if key not in known]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_all_that_a_workflow_names_exists(name: str) -> None:
    assert faults(WORKFLOWS[name]) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "fault"),
    [
        ("ci.yml", "-t staging", "-t stagin", "not understood: databricks bundle validate --strict -t stagin"),
        ("ci.yml", "dev.py check", "dev.py chekc", "not understood: python3 dev.py chekc"),
        ("ci.yml", "dev.py test", "dev.py test || true", "not understood: python3 dev.py test '||' true"),
        ("ci.yml", "@v1.7.12", "@latest", "not understood: go run"),
        ("ci.yml", "      - run: python3 dev.py test", "      - run: make", "not understood: make"),
        ("ci.yml", "  pull_request:", "  pull_request_target:", "unknown trigger: pull_request_target"),
        ("ci.yml", "permissions: {}", "permissions: read-all", "permissions: the workflow itself"),
        ("ci.yml", "      id-token: write", "      actions: write", "validate: permissions"),
        ("ci.yml", "    timeout-minutes: 15", "    continue-on-error: true", "check: timeout-minutes"),
        ("ci.yml", "    timeout-minutes: 15", "    continue-on-error: true", "unknown job: continue-on-error"),
        ("ci.yml", "  group: ci-", "  grup: ci-", "concurrency: no group"),
        ("ci.yml", "if: github", "if: always() || github", "if: not a fork"),
        ("ci.yml", "environment: validate", "environment: staging", "environment"),
        ("ci.yml", "github-oidc", "pat", "validate: env"),
        ("ci.yml", "astral-sh/setup-uv@", "astral-sh/setup-ux@", "uv is installed"),
        ("ci.yml", "      - run: uv venv\n", "", "the bundle's Python comes first"),
        ("model-diff.yml", "run features train", "run featurs train", "not understood: .venv/bin/laptop run featurs"),
        ("model-diff.yml", "--only train", "--only release", "not understood: .venv/bin/laptop run train --only"),
        ("model-diff.yml", "base.sha", "head.ref", "no path ${{ github.event.pull_request.head.ref }}"),
        ("model-diff.yml", "contents: read", "contents: write", "compare: permissions"),
        ("staging.yml", "--require-hashes requirements", "requirements", "not understood: uv pip sync requirements"),
        ("staging.yml", "run features", "run featurs", "not understood: databricks bundle run featurs -t staging"),
        (
            "staging.yml",
            "bundle deploy",
            "bundle destroy",
            "not understood: databricks bundle destroy -t staging --plan plan.json",
        ),
        ("staging.yml", "deploy -t staging", "deploy -t prod", "environment"),
        ("staging.yml", "environment: staging", "environment: prod", "environment"),
        (
            "staging.yml",
            "bundle deploy -t staging --plan plan.json",
            "bundle run train -t staging",
            "validate, plan, deploy",
        ),
        ("release.yml", "flight-delays plan-check plan.json", "flight-delays lookup", "a plan that was checked"),
        (
            "release.yml",
            "  - run: databricks bundle run features",
            "  - run: databricks bundle deploy -t prod --plan plan.json\n      - run: databricks bundle run features",
            "a plan that was checked",
        ),
        (
            "release.yml",
            "--target prod remove",
            "--target pro remove",
            "not understood: .venv/bin/flight-delays --target pro",
        ),
        ("staging.yml", "      BUNDLE_VAR_service_principal", "      BUNDLE_VAR_principal", "deploy: env"),
        ("staging.yml", "requirements/dev.txt", "requirements/prod.txt", "no path requirements/prod.txt"),
        ("staging.yml", "./.github/workflows/ci.yml", "./.github/workflows/test.yml", "uses: ./.github"),
        ("staging.yml", "      id-token: write\n    uses", "      actions: write\n    uses", "ci: permissions"),
        ("staging.yml", "cancel-in-progress: false", "cancel-in-progress: true", "cancel-in-progress: false"),
        ("release.yml", "    needs: ci\n", "", "needs: ci.yml"),
        ("azureml.yml", "    needs: staging\n", "", "production after staging"),
        ("azureml.yml", "environment: prod", "environment: staging", "environment"),
        ("azureml.yml", "azure/login@", "azure/logon@", "azure: signed in"),
        ("azureml.yml", "${{ inputs.model_version }}", "${{ vars.MODEL_VERSION }}", "env"),
        ("azureml.yml", "azureml/endpoint.yml", "azureml/endpoints.yml", "not understood: az ml online-endpoint show"),
        (
            "azureml.yml",
            '--model-version "$MODEL_VERSION" --end',
            "--end",
            "not understood: .venv/bin/flight-delays stage",
        ),
        (
            "azureml.yml",
            '"$WORKSPACE_ADDRESS/$ENDPOINT"',
            '"$ADDRESS"',
            "not understood: .venv/bin/flight-delays stage",
        ),
        ("azureml.yml", "id-token: write", "actions: write", "permissions"),
        ("aks.yml", "    needs: staging\n", "", "production after staging"),
        ("aks.yml", "environment: prod", "environment: staging", "environment"),
        ("aks.yml", "--wait --timeout", "--atomic --timeout", "not understood: .venv/bin/helm upgrade"),
        ("aks.yml", "values-prod", "values-production", "not understood: .venv/bin/helm upgrade"),
        ("aks.yml", "kubernetes://scoring/delay", "kubernetes://scoring/late", "env"),
        ("aks.yml", "id-token: write", "actions: write", "permissions"),
        ("release.yml", " # v10.0.1", "", "uses: astral-sh/setup-uv@20cfd1bf"),
        ("release.yml", "@20cfd1bf945f4377ade1205e4dbc17946fc9a30d", "@v10.0.1", "uses: astral-sh/setup-uv@v10.0.1"),
        ("release.yml", "databricks/setup-cli@", "databricks/setup-cly@", "databricks is installed"),
        ("release.yml", "astral-sh/setup-uv@", "astral-sh/setup-ux@", "uv is installed"),
        ("release.yml", "actions/checkout@", "actions/checkin@", "the checkout comes first"),
        ("release.yml", "runs-on: ubuntu-24.04", "runs-on: ubuntu-latest", "runs-on: a fixed version"),
        ("image.yml", "--fail-on high", "--fail-on critical", "not understood: go run github.com/anchore/grype"),
        ("image.yml", "grype@v0.116.0", "grype@latest", "not understood: go run github.com/anchore/grype"),
        (
            "image.yml",
            "      - run: go run github.com/anchore/grype/cmd/grype@v0.116.0 --only-fixed --fail-on high "
            "oci-archive:build/image.tar\n",
            "",
            "build, scan, push, sign, note",
        ),
        ("image.yml", "environment: ${{ inputs.environment }}", "environment: prod", "environment"),
        ("image.yml", "      id-token: write", "      packages: write", "image: permissions"),
        ("image.yml", "${{ vars.AZURE_CLIENT_ID }}", "${{ secrets.AZURE_CLIENT_ID }}", "no path ${{ secrets"),
        (
            "image.yml",
            "image-made --model-name",
            "image-made --name",
            "not understood: .venv/bin/flight-delays image-made",
        ),
    ],
)
def test_what_is_wrong_is_found(name: str, old: str, new: str, fault: str) -> None:
    assert old in WORKFLOWS[name]
    assert any(fault in found for found in faults(WORKFLOWS[name].replace(old, new)))


def test_every_target_is_validated_before_a_merge() -> None:
    assert {words[-1] for words in commands("ci.yml") if words[:3] == ["databricks", "bundle", "validate"]} == TARGETS


def test_a_pull_requests_model_is_compared_with_that_of_its_base() -> None:
    steps = yaml.safe_load(WORKFLOWS["model-diff.yml"])["jobs"]["compare"]["steps"]
    checkouts = [step["with"] for step in steps if "uses" in step]
    assert [one.get("ref") for one in checkouts] == [BASE, None]
    assert checkouts[1]["clean"] is False  # else the base's world would be gone


def test_staging_builds_features_trains_scores_and_checks_the_endpoint() -> None:
    assert jobs_run("staging.yml") == ["features", "train", "score_batch", "check_endpoint"]


def test_a_release_does_not_change_which_version_serves() -> None:
    assert {"train", "release"} <= BUNDLE_JOBS - {*jobs_run("release.yml")}


def test_the_options_of_an_images_commands_exist() -> None:
    for words in (words for words in IMAGE_COMMANDS if words[0].endswith("flight-delays")):
        known = {option for parameter in app.commands[words[1]].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known


def test_zizmor_finds_nothing() -> None:
    command = [str(Path(sys.executable).parent / "zizmor"), "--offline", "--no-progress", "--quiet", ".github"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_actionlint_finds_nothing() -> None:
    command = shutil.which("actionlint")
    if command is None:
        pytest.skip("no actionlint on the PATH; ci.yml runs it")
    ended = subprocess.run([command, *FOLDER.iterdir()], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


def commands(name: str) -> list[list[str]]:
    return [words for job in yaml.safe_load(WORKFLOWS[name])["jobs"].values() for words in commands_of(job)]


def jobs_run(name: str) -> list[str]:
    return [words[3] for words in commands(name) if words[:3] == ["databricks", "bundle", "run"]]
