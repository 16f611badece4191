"""Secrets, as the unmodified WorkspaceClient uses them."""

import base64
from typing import Any

import pytest
from databricks.sdk.errors import InvalidParameterValue, NotFound, ResourceAlreadyExists


@pytest.fixture
def secrets(workspace: Any) -> Any:
    workspace.client.secrets.create_scope("flights")
    return workspace.client.secrets


def value(secrets: Any, key: str) -> bytes:
    return base64.b64decode(secrets.get_secret("flights", key).value)


def test_a_secret_is_kept_as_it_was_put_until_it_is_put_again(secrets: Any) -> None:
    secrets.put_secret("flights", "store", string_value="a ü")
    secrets.put_secret("flights", "bytes", bytes_value=base64.b64encode(b"\0\xff").decode())
    secrets.put_secret("flights", "empty", string_value="")
    assert (value(secrets, "store"), value(secrets, "bytes"), value(secrets, "empty")) == (
        "a ü".encode(),
        b"\0\xff",
        b"",
    )
    secrets.put_secret("flights", "store", string_value="b")
    assert value(secrets, "store") == b"b"
    assert [each.key for each in secrets.list_secrets("flights")] == ["bytes", "empty", "store"]


def test_the_client_reads_a_secret_as_dbutils_does(workspace: Any, secrets: Any) -> None:
    secrets.put_secret("flights", "store", string_value="hush")
    assert workspace.client.dbutils.secrets.get("flights", "store") == "hush"


def test_scopes_are_made_once_listed_and_deleted_with_their_secrets(secrets: Any) -> None:
    secrets.create_scope("another")
    with pytest.raises(ResourceAlreadyExists, match=r"^secret scope another exists already$"):
        secrets.create_scope("another")
    assert [scope.name for scope in secrets.list_scopes()] == ["another", "flights"]
    secrets.put_secret("another", "a", string_value="1")
    secrets.delete_scope("another")
    secrets.create_scope("another")
    assert list(secrets.list_secrets("another")) == []


def test_a_deleted_secret_is_gone(secrets: Any) -> None:
    secrets.put_secret("flights", "store", string_value="a")
    secrets.delete_secret("flights", "store")
    assert list(secrets.list_secrets("flights")) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda secrets: secrets.get_secret("flights", "none"),
        lambda secrets: secrets.delete_secret("flights", "none"),
        lambda secrets: secrets.delete_scope("none"),
        lambda secrets: secrets.get_secret("none", "a"),
        lambda secrets: list(secrets.list_secrets("none")),
        lambda secrets: secrets.put_secret("none", "a", string_value="1"),
    ],
)
def test_what_is_not_there_is_not_found(secrets: Any, call: Any) -> None:
    with pytest.raises(NotFound, match=r"^there is no secret (scope )?none"):
        call(secrets)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda secrets: secrets.put_secret("flights", "a"), "give string_value or bytes_value"),
        (
            lambda secrets: secrets.put_secret("flights", "a", string_value="1", bytes_value="MQ=="),
            "give string_value or bytes_value",
        ),
        (lambda secrets: secrets.put_secret("flights", "a", bytes_value="!"), "bytes_value: not base64"),
        (lambda secrets: secrets.put_secret("flights", "two words", string_value="1"), "key: String should match"),
        (lambda secrets: secrets.create_scope("a/b"), "scope: String should match"),
    ],
)
def test_a_wrong_request_is_refused(secrets: Any, call: Any, message: str) -> None:
    with pytest.raises(InvalidParameterValue) as error:
        call(secrets)
    assert str(error.value).startswith(message)


def test_the_file_is_for_its_owner_only_and_may_be_written_by_others(workspace: Any, secrets: Any) -> None:
    secrets.put_secret("flights", "store", string_value="a")
    file = workspace.folder / "api/secrets.json"
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text('{"given": {"key": "aHVzaA=="}}')
    assert base64.b64decode(secrets.get_secret("given", "key").value) == b"hush"
    assert [path.name for path in file.parent.iterdir() if path.name != "address"] == ["secrets.json"]
