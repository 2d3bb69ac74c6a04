"""Folders that travel with a job: working_dir and py_modules.

The driver takes a copy at init(), named by its content, into its node's session folder; on a
cluster of several nodes the copy also goes as a zip file, in pieces, to the control store, from
where the first worker of another node fetches it. Each node unpacks a package once.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys

from skate import _core, _env_check, _wire
from skate._env_apply import SetupError, session_dir
from skate._init_config import switch

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import IO, Any

SCHEME = "gcs://"
CHUNK = 1 << 20
MAX_BYTES = 500 << 20
_CALL_S = 60.0


def _max_bytes() -> int:
    for name in ("SKATE_WORKING_DIR_MAX_BYTES", "RAY_max_grpc_message_size"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return MAX_BYTES


# ------------------------------------------------------------------------------ the driver's side


def check_paths(env: dict[str, Any]) -> None:
    """What a job gives must be there. ValueError."""
    folder = env.get("working_dir")
    if folder is not None and not _env_check.is_uri(folder):
        archive = os.path.isfile(folder) and folder.endswith((".zip", ".tar.gz", ".tgz", ".tar.xz"))
        if not os.path.isdir(folder) and not archive:
            raise ValueError(
                f"working_dir: {folder} must be an existing folder of this machine or an archive "
                "(.zip, .tar.gz, .tgz, .tar.xz)"
            )


def take(env: dict[str, Any], upload: bool) -> None:
    """Replace the paths of a job's environment by packages. upload: other nodes need them too."""
    excludes = env.pop("excludes", None) or []
    folder = env.get("working_dir")
    if folder is not None and not _env_check.is_uri(folder):
        env["working_dir"] = _take_one(os.path.abspath(folder), "", excludes, upload)
    if env.get("py_modules"):
        env["py_modules"] = [_take_module(item, excludes, upload) for item in env["py_modules"]]


def _take_module(item: Any, excludes: list[str], upload: bool) -> str:
    if not isinstance(item, str):  # a module: its package's folder, or its file
        paths = list(getattr(item, "__path__", ()))
        item = paths[0] if paths else item.__file__
    if _env_check.is_uri(item):
        return item
    path = os.path.abspath(item)
    top = "" if path.endswith(_env_check.ARCHIVES) else os.path.basename(path) + "/"
    return _take_one(path, top, excludes, upload)


def _take_one(path: str, top: str, excludes: list[str], upload: bool) -> str:
    """Copy a folder, a file or the content of an archive into the session. Its URI."""
    import hashlib

    made = os.path.join(session_dir(), f"taking_{os.getpid()}")
    shutil.rmtree(made, ignore_errors=True)
    os.makedirs(made, mode=0o700)
    digest = hashlib.sha256()
    total = 0
    try:
        if os.path.isfile(path) and not top:
            _unpack(path, made, single_top=False)
            found = _all_files(made)
        elif os.path.isfile(path):
            found = [(os.path.basename(path), path)]
            top = ""
        else:
            found = _chosen(path, excludes)
        for relative, file in found:
            total += _copy(file, os.path.join(made, top + relative), top + relative, digest)
        name = f"_skate_pkg_{digest.hexdigest()[:32]}"
        _check_size(path, made, total)
        home = os.path.join(session_dir(), name)
        if not os.path.isdir(home):
            try:
                os.rename(made, home)
            except OSError:
                if not os.path.isdir(home):  # else another driver of this node was first
                    raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    if upload:
        _upload(name, home)
    return f"{SCHEME}{name}.zip"


def _chosen(path: str, excludes: list[str]) -> list[tuple[str, str]]:
    from skate import _env_ignore

    honour = not switch("RUNTIME_ENV_IGNORE_GITIGNORE", False)
    return list(_env_ignore.files(path, excludes, honour))


def _all_files(root: str) -> list[tuple[str, str]]:
    out = []
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            out.append((os.path.relpath(path, root), path))
    return sorted(out)


def _copy(source: str, target: str, relative: str, digest: Any) -> int:
    """Copy (unless it is there already) and take into the digest. Its size."""
    size = 0
    mode = os.stat(source).st_mode & 0o777
    digest.update(f"{relative}\0{mode & 0o111:o}\0".encode("utf-8", "surrogateescape"))
    with open(source, "rb") as file:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        out: IO[bytes] | None = None if source == target else open(target, "wb")
        try:
            while data := file.read(CHUNK):
                digest.update(data)
                size += len(data)
                if out is not None:
                    out.write(data)
        finally:
            if out is not None:
                out.close()
    if source != target:
        os.chmod(target, mode | 0o600)
    digest.update(size.to_bytes(8, "little"))
    return size


def _check_size(path: str, made: str, total: int) -> None:
    """The limit is on the package, so what is larger than it may still pass, compressed."""
    limit = _max_bytes()
    if total < limit:
        return
    packed = _zip(made)
    size = os.fstat(packed.fileno()).st_size
    packed.close()
    if size >= limit:
        raise ValueError(
            f"{path} makes a package of {size / (1 << 20):.2f} MiB; the most is "
            f"{limit / (1 << 20):.2f} MiB. Leave large files out with `excludes` or a .gitignore, "
            "or give them to the tasks as objects"
        )


def _zip(folder: str) -> IO[bytes]:
    import tempfile
    import zipfile

    out = tempfile.TemporaryFile()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for relative, path in _all_files(folder):
            info = zipfile.ZipInfo(relative)
            info.external_attr = (os.stat(path).st_mode & 0xFFFF) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            with open(path, "rb") as file, archive.open(info, "w", force_zip64=True) as entry:
                shutil.copyfileobj(file, entry, CHUNK)
    out.flush()
    return out


def _call(message: str, **fields: Any) -> dict[str, Any]:
    return _wire.parse(_core.call(_wire.GCS, _wire.build(message, **fields), _CALL_S))[1]


def _upload(name: str, home: str) -> None:
    if _call("kv_get", key=f"pkg:{name}")["status"] == 0:
        return
    count = 0
    with _zip(home) as packed:
        packed.seek(0)
        while data := packed.read(CHUNK):
            answer = _call("kv_put", key=f"pkg:{name}:{count}", value=data, overwrite=1)
            if answer["status"] < 0:
                raise ValueError(
                    f"the package of {home} cannot be stored in the cluster: {answer['reason']}"
                )
            count += 1
    _call("kv_put", key=f"pkg:{name}", value=str(count).encode(), overwrite=1)


# ------------------------------------------------------------------------------ the worker's side


def use(env: dict[str, Any]) -> None:
    """Go to the working_dir, and let its modules and py_modules be imported. SetupError."""
    modules = [_ensure(uri) for uri in env.get("py_modules") or ()]
    home = _ensure(env["working_dir"]) if env.get("working_dir") else None
    for path in [*reversed(modules), home]:
        if path is not None and path not in sys.path:
            sys.path.insert(0, path)
    if home is not None:
        os.chdir(home)


def _ensure(uri: str) -> str:
    """The folder of a package on this node, made by whoever comes first."""
    own = uri.startswith(SCHEME)
    if own:
        name = uri[len(SCHEME) :].removesuffix(".zip")
    else:
        import hashlib

        name = f"_skate_uri_{hashlib.sha256(uri.encode()).hexdigest()[:32]}"
    if "/" in name or not name.startswith("_skate_"):
        raise SetupError(f"{uri} is no package of this cluster")
    home = os.path.join(session_dir(), name)
    if os.path.isdir(home):
        return home
    os.makedirs(session_dir(), mode=0o700, exist_ok=True)
    with open(f"{home}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.isdir(home):
            made = f"{home}.new"
            shutil.rmtree(made, ignore_errors=True)
            os.makedirs(made, mode=0o700)
            archive = f"{home}.archive{_suffix(uri)}"
            try:
                if own:
                    _download(name, archive)
                else:
                    _fetch(uri, archive)
                _unpack(archive, made, single_top=not own)
            finally:
                if os.path.exists(archive):
                    os.unlink(archive)
            os.rename(made, home)
    return home


def _suffix(uri: str) -> str:
    return next((end for end in _env_check.ARCHIVES if uri.endswith(end)), ".zip")


def _download(name: str, path: str) -> None:
    answer = _call("kv_get", key=f"pkg:{name}")
    if answer["status"] < 0:
        raise SetupError(f"the package {name} is not in the cluster (any more)")
    with open(path, "wb") as out:
        for i in range(int(answer["value"])):
            piece = _call("kv_get", key=f"pkg:{name}:{i}")
            if piece["status"] < 0:
                raise SetupError(f"piece {i} of the package {name} is not in the cluster")
            out.write(piece["value"])


def _fetch(uri: str, path: str) -> None:
    """https and file; other schemes need libraries that are not ours."""
    import urllib.error
    import urllib.request

    if not uri.startswith(("https://", "http://", "file://")):
        scheme = uri.partition("://")[0]
        raise SetupError(
            f"{uri} cannot be fetched: {scheme}:// is not supported, https:// and file:// are"
        )
    try:
        with urllib.request.urlopen(uri, timeout=_CALL_S) as source, open(path, "wb") as out:
            shutil.copyfileobj(source, out, CHUNK)
    except (urllib.error.URLError, OSError) as error:
        raise SetupError(f"{uri} cannot be fetched: {error}") from None


def _unpack(archive: str, folder: str, single_top: bool) -> None:
    """Unpack; nothing may land outside of the folder. single_top: leave out the one folder that
    holds all."""
    import tarfile
    import zipfile

    try:
        if archive.endswith((".tar.gz", ".tgz", ".tar.xz")):
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
        else:
            with zipfile.ZipFile(archive) as packed:
                for info in packed.infolist():
                    path = packed.extract(info, folder)
                    mode = info.external_attr >> 16 & 0o777
                    if mode and not info.is_dir():
                        os.chmod(path, mode | 0o600)
    except (zipfile.BadZipFile, tarfile.TarError) as error:
        raise SetupError(f"{archive} cannot be unpacked: {error}") from None
    names = os.listdir(folder)
    if single_top and len(names) == 1 and os.path.isdir(os.path.join(folder, names[0])):
        inner = os.path.join(folder, names[0])
        for name in os.listdir(inner):
            os.rename(os.path.join(inner, name), os.path.join(folder, f"{name}.moving"))
        os.rmdir(inner)
        for name in os.listdir(folder):
            os.rename(os.path.join(folder, name), os.path.join(folder, name[: -len(".moving")]))
