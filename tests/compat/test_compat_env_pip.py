"""pip (and uv) in runtime environments, with wheels made on the spot: no network is needed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile

import pytest
from compat_target import ON_RAY, PATIENCE, exceptions, ray, start

pytestmark = pytest.mark.skipif(
    ON_RAY and importlib.util.find_spec("virtualenv") is None,
    reason="Ray needs the package virtualenv for this",
)
OFFLINE = ["--no-index", "--disable-pip-version-check"]


def wheel(folder, name, version, body="", requires=()):
    """The smallest wheel with one module."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {need}\n" for need in requires)
    with zipfile.ZipFile(path, "w") as out:
        out.writestr(f"{name}.py", f"VERSION = {version!r}\n{body}")
        out.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
        )
        out.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        names = (f"{name}.py", f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD")
        out.writestr(f"{info}/RECORD", "".join(f"{n},,\n" for n in names))
    return str(path)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    return {
        "first": wheel(folder, "tinyenvpkg", "1.0"),
        "second": wheel(folder, "tinyenvpkg", "2.0"),
        "broken": wheel(folder, "needyenvpkg", "1.0", requires=["no-such-package-anywhere"]),
        "folder": str(folder),
    }


def pip(*packages, **more):
    return {"pip": {"packages": list(packages), "pip_install_options": OFFLINE, **more}}


@ray.remote
def version():
    import tinyenvpkg

    return tinyenvpkg.VERSION, os.path.dirname(tinyenvpkg.__file__), os.getpid()


@ray.remote
class Holder:
    def version(self):
        import tinyenvpkg

        return tinyenvpkg.VERSION


@pytest.mark.row("8.pip")
def test_each_content_has_its_own(cluster, wheels):
    first = version.options(runtime_env=pip(wheels["first"]))
    second = version.options(runtime_env=pip(wheels["second"]))
    ones = ray.get([first.remote() for _ in range(3)])
    twos = ray.get([second.remote() for _ in range(2)])
    assert {v for v, _, _ in ones} == {"1.0"} and {v for v, _, _ in twos} == {"2.0"}
    assert len({where for _, where, _ in ones}) == 1  # built once, though many asked at once
    assert not {pid for _, _, pid in ones} & {pid for _, _, pid in twos}
    with pytest.raises(ModuleNotFoundError):
        ray.get(version.remote())


@pytest.mark.row("8.pip")
def test_the_same_content_is_not_built_again(cluster, wheels, tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text(wheels["first"] + "\n")
    first = ray.get(version.options(runtime_env=pip(wheels["first"])).remote())
    env = {"pip": {"packages": str(file), "pip_install_options": OFFLINE}}
    assert ray.get(version.options(runtime_env=env).remote())[1] == first[1]


@pytest.mark.row("8.pip")
def test_an_actor_and_its_children(cluster, wheels):
    env = pip(wheels["second"])
    holder = Holder.options(runtime_env=env).remote()
    assert ray.get(holder.version.remote()) == "2.0"

    @ray.remote
    def parent():
        return ray.get(version.remote())[0]

    assert ray.get(parent.options(runtime_env=env).remote()) == "2.0"


@pytest.mark.row("8.pip")
def test_the_nodes_packages_are_seen_and_programs_too(cluster, wheels):
    @ray.remote
    def look():
        import cloudpickle
        import numpy

        code = "import tinyenvpkg, numpy; print(tinyenvpkg.VERSION)"
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        return numpy.__name__, cloudpickle.__name__, out.stdout.strip()

    env = pip(wheels["first"])
    assert ray.get(look.options(runtime_env=env).remote()) == ("numpy", "cloudpickle", "1.0")


@pytest.mark.row("8.pip", "5.env")
def test_a_failed_build_says_why(cluster):
    env = pip("no-such-package-anywhere==1.0")
    with pytest.raises(exceptions.RuntimeEnvSetupError, match="no-such-package-anywhere"):
        ray.get(version.options(runtime_env=env).remote(), timeout=60 * PATIENCE)
    holder = Holder.options(runtime_env=env).remote()
    with pytest.raises(exceptions.RuntimeEnvSetupError, match="no-such-package-anywhere"):
        ray.get(holder.version.remote(), timeout=60 * PATIENCE)


@pytest.mark.row("8.pip", "5.env")
def test_pip_check(cluster, wheels):
    options = [*OFFLINE, "--no-deps"]
    broken = {"packages": [wheels["broken"]], "pip_install_options": options}

    @ray.remote
    def name():
        import needyenvpkg

        return needyenvpkg.__name__

    assert ray.get(name.options(runtime_env={"pip": broken}).remote()) == "needyenvpkg"
    env = {"pip": {**broken, "pip_check": True}}
    with pytest.raises(exceptions.RuntimeEnvSetupError, match="no-such-package-anywhere"):
        ray.get(name.options(runtime_env=env).remote(), timeout=60 * PATIENCE)


@pytest.mark.row("8.pip", "8.setup_hook", "5.env")
def test_a_build_that_takes_too_long(cluster, tmp_path):
    source = tmp_path / "slowenvpkg"
    source.mkdir()
    (source / "setup.py").write_text("import time\ntime.sleep(600)\n")
    env = {
        "pip": {
            "packages": [str(source)],
            "pip_install_options": [*OFFLINE, "--no-build-isolation"],
        },
        "config": {"setup_timeout_seconds": 2 * PATIENCE},
    }
    with pytest.raises(exceptions.RuntimeEnvSetupError):
        ray.get(version.options(runtime_env=env).remote(), timeout=60 * PATIENCE)


@pytest.mark.row("8.pip")
def test_for_the_whole_job_and_not_before_it_is_needed(no_cluster, wheels):
    start(runtime_env={**pip(wheels["first"]), "config": {"eager_install": False}})
    assert ray.get(version.remote())[0] == "1.0"
    assert ray.get(Holder.remote().version.remote()) == "1.0"
    env = {"env_vars": {"MORE": "1"}}
    assert ray.get(version.options(runtime_env=env).remote())[0] == "1.0"


@pytest.mark.row("8.pip")
def test_a_wheel_as_py_module(no_cluster, wheels):
    start(runtime_env={"py_modules": [wheels["second"]]})
    assert ray.get(version.remote())[0] == "2.0"


@pytest.mark.row("8.pip")
def test_uv(cluster, wheels):
    uv = subprocess.run([sys.executable, "-m", "uv", "--version"], capture_output=True)
    if uv.returncode:
        pytest.skip("uv is not installed, and is not fetched for a test")
    env = {"uv": {"packages": [wheels["second"]], "uv_pip_install_options": ["--no-index"]}}
    assert ray.get(version.options(runtime_env=env).remote())[0] == "2.0"
