"""The Files API on volumes: https://docs.databricks.com/api/workspace/files

/Volumes/<catalog>/<schema>/<volume>/... is the world's folder volumes/<catalog>/<schema>/<volume>/.... A volume need
not have been created: whoever writes to it makes it. There are no presigned URLs, as in a workspace that disables
them: the SDK then takes the plain way, for uploads and downloads of any size. A listing is one page.
"""

import re
from email.utils import formatdate
from pathlib import Path
from uuid import uuid4

from bundle_laptop.api.web import Answer, ApiError, Request, Route, Tree, invalid

_FILES, _DIRECTORIES = "/api/2.0/fs/files", "/api/2.0/fs/directories"
_PRESIGNED = ("download-url", "upload-part-urls", "resumable-upload-url", "abort-upload-url")
_UNFINISHED = ".laptop-upload-"
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_DONE = Answer(status=204)


class Volumes:
    """The volumes of one world."""

    def __init__(self, folder: Path) -> None:
        self._root = folder / "volumes"

    def routes(self) -> list[Route]:
        """What this answers."""
        file, directory = _FILES + "{path:path}", _DIRECTORIES + "{path:path}"
        return [
            ("PUT", file, self._upload),
            ("GET", file, self._download),
            ("HEAD", file, self._download),
            ("DELETE", file, self._delete),
            # The SDK asks for this before a large upload; it then asks for presigned URLs, and goes without.
            ("POST", file, lambda _: {"multipart_upload": {"session_token": uuid4().hex}}),
            ("PUT", directory, self._make_directory),
            ("GET", directory, self._list),
            ("HEAD", directory, self._find_directory),
            ("DELETE", directory, self._delete_directory),
            *(("POST", f"/api/2.0/fs/create-{kind}", _no_presigned_urls) for kind in _PRESIGNED),
        ]

    def _at(self, request: Request) -> Path:
        """Where a path leads. Raises ApiError for one that is in no volume, or leads out of it."""
        path = request["path"]
        first, *parts = path.strip("/").split("/")
        if first != "Volumes" or len(parts) < 3:
            raise invalid(f"{path}: not /Volumes/<catalog>/<schema>/<volume>/...")
        if any(part in ("", ".", "..") or "\0" in part or "\\" in part for part in parts):
            raise invalid(f"{path}: a part of the path is empty, or leads out of the volume")
        return self._root.joinpath(*parts)

    def _file(self, request: Request) -> Path:
        if not (there := self._at(request)).is_file():
            raise ApiError(404, "NOT_FOUND", f"The file being accessed is not found: {request['path']}")
        return there

    def _directory(self, request: Request) -> Path:
        if not (there := self._at(request)).is_dir():
            raise ApiError(404, "NOT_FOUND", f"The directory being accessed is not found: {request['path']}")
        return there

    def _upload(self, request: Request) -> Answer:
        path, there = request["path"], self._at(request)
        if there.is_dir():
            raise invalid(f"The path is a directory: {path}")
        if there.exists() and request.query.get("overwrite") == "false":
            raise ApiError(409, "ALREADY_EXISTS", f"The file already exists: {path}")
        _make(there.parent, path)
        unfinished = there.with_name(f"{_UNFINISHED}{uuid4().hex}")
        unfinished.write_bytes(request.content)
        unfinished.replace(there)
        return _DONE

    def _download(self, request: Request) -> Answer:
        there = self._file(request)
        modified = formatdate(int(there.stat().st_mtime), usegmt=True)
        headers = {"Content-Type": "application/octet-stream", "Last-Modified": modified, "Accept-Ranges": "bytes"}
        content = there.read_bytes()
        asked = _RANGE.fullmatch(request.headers.get("range", ""))
        if not asked:
            return Answer(headers=headers, body=content)
        start, size = int(asked[1]), len(content)
        if start >= size:
            raise ApiError(416, "INVALID_PARAMETER_VALUE", f"The file has {size} bytes: {request['path']}")
        part = content[start : int(asked[2] or size) + 1]
        headers["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{size}"
        return Answer(status=206, headers=headers, body=part)

    def _delete(self, request: Request) -> Answer:
        self._file(request).unlink()
        return _DONE

    def _make_directory(self, request: Request) -> Answer:
        _make(self._at(request), request["path"])
        return _DONE

    def _find_directory(self, request: Request) -> Answer:
        self._directory(request)
        return Answer()

    def _list(self, request: Request) -> Tree:
        path = request["path"].rstrip("/")
        found = sorted(each for each in self._directory(request).iterdir() if not each.name.startswith(_UNFINISHED))
        return {"contents": [_entry(each, f"{path}/{each.name}") for each in found]}

    def _delete_directory(self, request: Request) -> Answer:
        there = self._directory(request)
        if any(there.iterdir()):
            message = f"The directory being deleted is not empty: {request['path']}"
            raise ApiError(400, "INVALID_PARAMETER_VALUE", message, reason="FILES_API_DIRECTORY_IS_NOT_EMPTY")
        there.rmdir()
        return _DONE


def _no_presigned_urls(_: Request) -> Tree:
    raise ApiError(403, "PERMISSION_DENIED", "Presigned URLs are disabled.")


def _make(folder: Path, path: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise invalid(f"A part of the path is a file: {path}") from None


def _entry(there: Path, path: str) -> Tree:
    stat, is_folder = there.stat(), there.is_dir()
    size = {} if is_folder else {"file_size": stat.st_size}
    modified = int(stat.st_mtime * 1000)
    return {"name": there.name, "path": path, "is_directory": is_folder, "last_modified": modified, **size}
