"""Runtime environments: variables, folders, hooks; how they merge, what is refused; reuse."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile

import pytest
from compat_target import ON_RAY, exceptions, ray, start

JOB_VARIABLES = {
    "FIRST": "1",
    "SECOND": "two-${FIRST}",
    "HOMES": "$HOME:${HOME}",
    "LATER": "/q:${SKATE_COMPAT_NO_SUCH_VARIABLE}",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working_dir with what is left out of it, and a package for py_modules."""
    base = tmp_path_factory.mktemp("env")
    work = base / "work"
    (work / "inner").mkdir(parents=True)
    (work / "left").mkdir()
    (work / "beside_env.py").write_text("VALUE = 7\n")
    (work / "inner" / "data.txt").write_text("inside")
    (work / "left" / "big.txt").write_text("excluded")
    (work / ".gitignore").write_text("*.log\n!keep.log\nsecret.txt\n")
    for name in ("a.log", "keep.log", "secret.txt"):
        (work / name).write_text(name)
    (base / "package_env").mkdir()
    (base / "package_env" / "__init__.py").write_text("NAME = 'package'\n")
    return base


@pytest.fixture()
def job(folder):
    """A job with an environment of its own, shared by the tests of this module."""
    if not ray.is_initialized():
        start(
            runtime_env={
                "env_vars": JOB_VARIABLES,
                "working_dir": str(folder / "work"),
                "excludes": ["left/"],
                "py_modules": [str(folder / "package_env")],
            },
        )
    return ray


@ray.remote
def variables(*names):
    return [os.environ.get(name) for name in names]


@ray.remote
def pid():
    return os.getpid()


@ray.remote
class Asker:
    def variables(self, *names):
        return [os.environ.get(name) for name in names]

    def child(self, *names):
        return ray.get(variables.remote(*names))

    def child_with(self, env, *names):
        return ray.get(variables.options(runtime_env=env).remote(*names))


# ---------------------------------------------------------------------------------- variables


@pytest.mark.row("8.env_vars")
def test_variables_of_the_job(job):
    out = ray.get(variables.remote("FIRST", "SECOND", "HOMES", "LATER"))
    home = os.environ["HOME"]
    assert out == ["1", "two-1", f"{home}:{home}", "/q:"]


@pytest.mark.row("8.env_vars", "2.runtime_env")
def test_a_task_stands_over_the_job_name_by_name(job):
    env = {"env_vars": {"FIRST": "one", "THIRD": "3"}}
    task = variables.options(runtime_env=env)
    assert ray.get(task.remote("FIRST", "SECOND", "THIRD")) == ["one", "two-one", "3"]
    assert ray.get(variables.remote("FIRST", "THIRD")) == ["1", None]


@pytest.mark.row("8.env_vars", "2.runtime_env")
def test_the_decorator_takes_it_too(job):
    @ray.remote(runtime_env={"env_vars": {"FIRST": "decorated"}})
    def own():
        return os.environ["FIRST"]

    assert ray.get(own.remote()) == "decorated"


@pytest.mark.row("8.env_vars")
def test_children_inherit(job):
    env = {"env_vars": {"FIRST": "actor", "FOURTH": "4"}}
    asker = Asker.options(runtime_env=env).remote()
    assert ray.get(asker.variables.remote("FIRST", "FOURTH")) == ["actor", "4"]
    assert ray.get(asker.child.remote("FIRST", "FOURTH", "SECOND")) == ["actor", "4", "two-actor"]
    more = {"env_vars": {"FOURTH": "child"}}
    assert ray.get(asker.child_with.remote(more, "FIRST", "FOURTH")) == ["actor", "child"]


@pytest.mark.row("8.env_vars", "2.runtime_env")
@pytest.mark.parametrize("env", [None, {}])
def test_an_empty_one_is_the_jobs(job, env):
    assert ray.get(variables.options(runtime_env=env).remote("FIRST")) == ["1"]


@pytest.mark.row("8.env_vars", "2.runtime_env")
@pytest.mark.parametrize(
    "env",
    [{"env_vars": {"A": 1}}, {"env_vars": {1: "A"}}, {"env_vars": ["A"]}, "text", 3],
)
def test_wrong_types_are_refused_at_once(job, env):
    with pytest.raises(TypeError):
        variables.options(runtime_env=env).remote()
    with pytest.raises(TypeError):
        Asker.options(runtime_env=env).remote()


# --------------------------------------------------------------------------- the class RuntimeEnv


@pytest.mark.row("8.env_vars")
def test_the_class_is_a_dict(job):
    from_class = ray.runtime_env.RuntimeEnv(env_vars={"FIRST": "class"})
    assert isinstance(from_class, dict) and from_class == {"env_vars": {"FIRST": "class"}}
    assert from_class.env_vars() == {"FIRST": "class"}
    assert ray.get(variables.options(runtime_env=from_class).remote("FIRST")) == ["class"]
    from_class["env_vars"] = {"FIRST": "changed"}
    assert ray.get(variables.options(runtime_env=from_class).remote("FIRST")) == ["changed"]
    with pytest.raises(TypeError):
        from_class["env_vars"] = {"FIRST": 1}


@pytest.mark.row("8.env_vars", "8.working_dir", "8.pip", "8.setup_hook")
@pytest.mark.parametrize(
    ("error", "fields"),
    [
        (TypeError, {"env_vars": {"a": 1}}),
        (TypeError, {"env_vars": [1]}),
        (TypeError, {"working_dir": 3}),
        (ValueError, {"working_dir": "/no/such/folder"}),
        (ValueError, {"working_dir": "s3://bucket/name"}),
        (TypeError, {"py_modules": "x"}),
        (TypeError, {"py_modules": [3]}),
        (ValueError, {"py_modules": ["/no/such/folder"]}),
        (TypeError, {"excludes": "x"}),
        (TypeError, {"pip": 3}),
        (ValueError, {"pip": "/no/such/requirements.txt"}),
        (ValueError, {"pip": {"nonsense": 1}}),
        (TypeError, {"pip": {"packages": ["a"], "pip_check": 3}}),
        (ValueError, {"pip": ["a"], "conda": "b"}),
        (ValueError, {"pip": ["a"], "uv": ["b"]}),
        (TypeError, {"conda": 3}),
        (ValueError, {"image_uri": "x", "pip": ["a"]}),
        (TypeError, {"config": 3}),
        (TypeError, {"config": {"setup_timeout_seconds": "a"}}),
        (ValueError, {"config": {"setup_timeout_seconds": 0}}),
        (TypeError, {"config": {"eager_install": 1}}),
    ],
)
def test_the_class_refuses(error, fields):
    with pytest.raises(error):
        ray.runtime_env.RuntimeEnv(**fields)


@pytest.mark.row("8.setup_hook")
def test_the_config_has_defaults():
    config = ray.runtime_env.RuntimeEnvConfig()
    assert config == {"setup_timeout_seconds": 600, "eager_install": True, "log_files": []}
    env = ray.runtime_env.RuntimeEnv(config={"setup_timeout_seconds": 10})
    assert env["config"]["setup_timeout_seconds"] == 10
    assert ray.runtime_env.RuntimeEnvConfig(setup_timeout_seconds=-1).to_dict()


@pytest.mark.row("8.pip")
def test_the_full_form_of_pip(tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text("first==1.0\nsecond\n")
    for given in (str(file), ["first==1.0", "second"]):
        pip = ray.runtime_env.RuntimeEnv(pip=given)["pip"]
        assert pip["packages"] == ["first==1.0", "second"] and pip["pip_check"] is False


@pytest.mark.row("8.env_vars")
def test_to_json_and_back():
    env = ray.runtime_env.RuntimeEnv(env_vars={"A": "1"})
    assert ray.runtime_env.RuntimeEnv.deserialize(env.serialize()) == env


# ------------------------------------------------------------------------------------- folders


@pytest.mark.row("8.working_dir")
def test_workers_are_in_a_copy_of_the_folder(job, folder):
    @ray.remote
    def look():
        import beside_env
        import package_env

        names = {n for n in os.listdir(".") if n != "__pycache__"}
        with open("inner/data.txt") as file:
            return os.getcwd(), names, file.read(), beside_env.VALUE, package_env.NAME

    where, names, text, value, package = ray.get(look.remote())
    assert where != str(folder / "work")
    assert names == {".gitignore", "inner", "beside_env.py", "keep.log"}
    assert (text, value, package) == ("inside", 7, "package")
    env = {"env_vars": {"OTHER": "1"}}
    assert ray.get(look.options(runtime_env=env).remote())[0] == where


@pytest.mark.row("8.working_dir")
def test_the_copy_is_of_the_time_of_init(job, folder):
    @ray.remote
    def names():
        return os.listdir(".")

    (folder / "work" / "came_later.txt").write_text("x")
    assert "came_later.txt" not in ray.get(names.remote())


@pytest.mark.row("8.working_dir", "2.runtime_env")
@pytest.mark.parametrize("field", ["working_dir", "py_modules"])
def test_local_paths_are_the_jobs_business(job, folder, field):
    path = str(folder / "work")
    env = {field: path if field == "working_dir" else [path]}
    with pytest.raises(ValueError, match="URI"):
        variables.options(runtime_env=env).remote()
    with pytest.raises(ValueError, match="URI"):
        Asker.options(runtime_env=env).remote()


# ---------------------------------------------------------------------------------- the context


@pytest.mark.row("6.rest", "8.env_vars")
def test_what_the_context_says(job):
    @ray.remote
    def told():
        context = ray.get_runtime_context()
        return dict(context.runtime_env), context.get_runtime_env_string()

    driver = ray.get_runtime_context().runtime_env
    assert driver["env_vars"] == JOB_VARIABLES
    assert driver["working_dir"].startswith("gcs://")
    env, text = ray.get(told.remote())
    assert env == dict(driver) and '"FIRST"' in text
    env, _ = ray.get(told.options(runtime_env={"env_vars": {"FIRST": "one"}}).remote())
    assert env["env_vars"] == {**JOB_VARIABLES, "FIRST": "one"}


# ---------------------------------------------------------------------------------------- reuse


@pytest.mark.row("14.reuse")
def test_no_worker_serves_two_environments(job):
    plain = {ray.get(pid.remote()) for _ in range(3)}
    one = {ray.get(pid.options(runtime_env={"env_vars": {"E": "1"}}).remote()) for _ in range(3)}
    two = {ray.get(pid.options(runtime_env={"env_vars": {"E": "2"}}).remote()) for _ in range(3)}
    assert not (plain & one or plain & two or one & two)


@pytest.mark.row("14.reuse")
def test_a_worker_is_used_again(job):
    env = {"env_vars": {"E": "again"}}
    first = ray.get(pid.options(runtime_env=env).remote())
    assert ray.get(pid.options(runtime_env=env).remote()) == first


@pytest.mark.row("14.reuse")
def test_many_tasks_of_many_environments(job):
    tasks = [variables.options(runtime_env={"env_vars": {"E": str(i % 3)}}) for i in range(9)]
    assert ray.get([t.remote("E") for t in tasks]) == [[str(i % 3)] for i in range(9)]


# -------------------------------------------------------------------------------- interpreters


@ray.remote
def interpreter():
    return sys.flags.dev_mode, hash("a text"), os.environ.get("TWICE"), os.getcwd()


@pytest.mark.row("8.pip")
def test_another_interpreter(job):
    env = {"py_executable": f"{sys.executable} -X dev", "env_vars": {"TWICE": "x${FIRST}"}}
    dev, _, text, where = ray.get(interpreter.options(runtime_env=env).remote())
    assert dev and text == "x1" and where == ray.get(interpreter.remote())[3]
    asker = Asker.options(runtime_env=env).remote()
    assert ray.get(asker.child.remote("TWICE", "FIRST")) == ["x1", "1"]


@pytest.mark.row("8.env_vars")
def test_variables_that_count_at_the_start_of_a_program(job):
    env = {"env_vars": {"PYTHONHASHSEED": "5"}}
    task = interpreter.options(runtime_env=env)
    code = "import sys; print(hash('a text'))"
    expected = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "5"}, capture_output=True, text=True,
    )  # fmt: skip
    assert ray.get(task.remote())[1] == int(expected.stdout)


@pytest.mark.row("8.pip", "5.env")
def test_an_interpreter_that_is_none(job):
    if ON_RAY:
        pytest.skip("Ray starts it again and again")
    for program in ("/no/such/python", "/bin/false", "/bin/echo good"):
        env = {"py_executable": program}
        with pytest.raises(exceptions.RuntimeEnvSetupError, match=program.split()[0]):
            ray.get(interpreter.options(runtime_env=env).remote(), timeout=60)


# ------------------------------------------------------------------------------------- failures


@pytest.mark.row("5.env", "8.setup_hook")
def test_what_cannot_be_set_up(job):
    env = {"conda": "no-such-environment-anywhere"}
    with pytest.raises(exceptions.RuntimeEnvSetupError):
        ray.get(variables.options(runtime_env=env).remote(), timeout=60)
    asker = Asker.options(runtime_env=env).remote()
    with pytest.raises(exceptions.RuntimeEnvSetupError):
        ray.get(asker.variables.remote(), timeout=60)
    assert ray.get(variables.remote("FIRST")) == ["1"]


# --------------------------------------------------------------------- jobs with other environments


@pytest.mark.row("8.working_dir", "1.init")
def test_a_missing_folder(no_cluster):
    with pytest.raises(ValueError, match="/no/such"):
        start(runtime_env={"working_dir": "/no/such/folder"})


@pytest.mark.row("8.env_vars", "1.init")
def test_a_wrong_variable_at_init(no_cluster):
    with pytest.raises(TypeError):
        start(runtime_env={"env_vars": {"A": 1}})


@pytest.mark.row("8.setup_hook")
def test_a_hook_runs_in_each_worker(no_cluster, folder):
    def hook():
        os.environ["HOOKED"] = str(os.getpid())

    start(runtime_env={"worker_process_setup_hook": hook, "env_vars": {"X": "1"}})
    assert ray.get(variables.remote("HOOKED", "X"))[1] == "1"
    asker = Asker.remote()
    assert int(ray.get(asker.variables.remote("HOOKED"))[0]) > 1


@pytest.mark.row("8.setup_hook")
def test_a_hook_by_its_name_from_a_zip_file(no_cluster, tmp_path):
    archive = tmp_path / "work.zip"
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("hook_module.py", "import os\ndef run():\n    os.environ['RAN'] = 'yes'\n")
    start(
        runtime_env={
            "working_dir": str(archive),
            "worker_process_setup_hook": "hook_module.run",
        }
    )
    assert ray.get(variables.remote("RAN")) == ["yes"]


@pytest.mark.row("8.setup_hook", "5.env")
def test_a_hook_that_fails(no_cluster):
    def hook():
        raise ValueError("the hook's own words")

    kinds = (exceptions.RuntimeEnvSetupError,)
    if ON_RAY:  # the worker just dies there
        kinds += (exceptions.WorkerCrashedError, exceptions.RayError)
    start(runtime_env={"worker_process_setup_hook": hook})
    with pytest.raises(kinds) as caught:
        ray.get(variables.options(max_retries=0).remote(), timeout=120)
    assert ON_RAY or "the hook's own words" in str(caught.value)


@pytest.mark.row("8.working_dir")
def test_a_module_object_as_py_module(no_cluster, folder):
    sys.path.insert(0, str(folder))
    try:
        import package_env

        start(runtime_env={"py_modules": [package_env]})
    finally:
        sys.path.remove(str(folder))

    @ray.remote
    def name():
        import package_env

        return package_env.NAME, package_env.__file__

    value, file = ray.get(name.remote())
    assert value == "package" and not file.startswith(str(folder))


@pytest.mark.row("8.script_dir")
def test_without_a_working_dir_workers_are_where_the_driver_is(no_cluster):
    start()

    @ray.remote
    def where():
        return os.getcwd()

    assert ray.get(where.remote()) == os.getcwd()
