"""init() in all its forms: hidden keywords, JobConfig, the environment, the client's spelling."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import textwrap

import pytest
from compat_target import ON_RAY, TARGET, ray, start

HERE = os.path.dirname(os.path.abspath(__file__))


def run_driver(source: str, code: int | None = 0, **variables: str) -> str:
    """Standard output of a fresh driver process with these environment variables."""
    env = dict(os.environ, SKATE_COMPAT_TARGET=TARGET, PYTHONUNBUFFERED="1", **variables)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [HERE, env.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)],
        env=env, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert code is None or done.returncode == code, done.stderr + done.stdout
    return done.stdout


def job_config(**options):
    return importlib.import_module(f"{ray.__name__}.job_config").JobConfig(**options)


@ray.remote
def variable(name):
    return os.environ.get(name)


@ray.remote
class Counter:
    def value(self):
        return 1


# ------------------------------------------------------------------------------------ keywords


@pytest.mark.row("1.init.hidden")
def test_keywords_without_a_meaning_are_accepted(no_cluster):
    start(
        include_dashboard=False,
        dashboard_host="127.0.0.1",
        dashboard_port=None,
        configure_logging=True,
        logging_format="%(message)s",
        _redis_password="secret",
        _enable_object_reconstruction=True,
        _system_config={"health_check_period_ms": 5000},
        _memory=10**9,
        _node_name="somebody",
        _metrics_export_port=None,
    )
    assert ray.cluster_resources()["memory"] == 10**9
    assert [n["NodeName"] for n in ray.nodes()] == ["somebody"]


@pytest.mark.row("1.init")
@pytest.mark.parametrize("name", ["local_mode", "allow_multiple", "storage", "no_such_thing"])
def test_keywords_that_are_refused(no_cluster, name):
    with pytest.raises(RuntimeError):
        start(**{name: True})
    assert not ray.is_initialized()


@pytest.mark.row("1.init")
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"num_cpus": 1.5}, ValueError),
        ({"num_cpus": "two"}, (TypeError, AssertionError)),
        ({"resources": {"CPU": 1}}, (ValueError, AssertionError)),
        ({"resources": "gold"}, (TypeError, AttributeError)),
        ({"labels": "x"}, (TypeError, AttributeError)),
        ({"object_store_memory": 5}, ValueError),
        ({"_memory": -5}, ValueError),
        ({"namespace": ""}, ValueError),
        ({"namespace": 3}, TypeError),
        ({"job_config": "x"}, (TypeError, AttributeError)),
        ({"logging_config": "x"}, (TypeError, AttributeError)),
        ({"runtime_env": "x"}, (TypeError, AttributeError)),
    ],
)
def test_values_that_are_refused(options, error):
    if ON_RAY:  # Ray starts a cluster first and leaves processes behind
        source = f"""
            from compat_target import start
            try:
                start(**{options!r})
            except Exception as raised:
                print([k.__name__ for k in type(raised).__mro__])
        """
        names = [e.__name__ for e in (error if isinstance(error, tuple) else (error,))]
        assert any(repr(name) in run_driver(source) for name in names)
        return
    ray.shutdown()
    with pytest.raises(error):
        start(**options)
    assert not ray.is_initialized()


@pytest.mark.row("1.context")
def test_the_context_is_a_mapping(no_cluster):
    context = start()
    info = context.address_info
    assert set(context) == set(info) == set(context.keys()) and len(context) == len(info)
    assert {
        "address", "gcs_address", "redis_address", "node_ip_address", "node_id", "session_dir",
        "webui_url", "object_store_address", "raylet_socket_name", "metrics_export_port",
    } <= set(info)  # fmt: skip
    assert context.get("node_id") == context["node_id"] and context.get("none", 3) == 3
    assert dict(context.items()) == info and list(context.values()) == list(info.values())
    assert "node_id" in context and context.ray_commit and context.ray_version
    with pytest.raises(KeyError):
        context["nothing"]
    again = start(ignore_reinit_error=True)
    assert again["node_id"] == context["node_id"]
    context.disconnect()
    assert not ray.is_initialized()


# ----------------------------------------------------------------------------------- JobConfig


@pytest.mark.row("8.job_config")
def test_a_job_config(no_cluster):
    config = job_config(
        runtime_env={"env_vars": {"FROM_CONFIG": "1"}},
        ray_namespace="of-the-config",
        metadata={"a": "b"},
    )
    assert config.metadata == {"a": "b"}
    start(job_config=config)
    assert ray.get_runtime_context().namespace == "of-the-config"
    assert ray.get(variable.remote("FROM_CONFIG")) == "1"


@pytest.mark.row("8.job_config")
def test_setters_and_errors_of_a_job_config():
    config = job_config()
    assert config.runtime_env == {} and config.metadata == {} and config.ray_namespace is None
    config.set_metadata("k", "v")
    config.set_ray_namespace("n")
    config.set_runtime_env({"env_vars": {"A": "1"}})
    config.set_default_actor_lifetime("detached")
    assert config.metadata == {"k": "v"} and config.ray_namespace == "n"
    assert config.runtime_env["env_vars"] == {"A": "1"}
    with pytest.raises(ValueError):
        config.set_default_actor_lifetime("for ever")
    with pytest.raises(ValueError):
        job_config(default_actor_lifetime="for ever")
    made = type(config).from_json({"ray_namespace": "z", "metadata": {"a": "b"}})
    assert made.ray_namespace == "z" and made.metadata == {"a": "b"}


# ----------------------------------------------------------------------------- the environment


@pytest.mark.row("12.connection")
def test_the_job_config_of_a_submitter():
    text = '{"runtime_env": {"env_vars": {"SUBMITTED": "yes"}}, "ray_namespace": "sub"}'
    out = run_driver(
        """
        import os
        from compat_target import ray, start
        start(log_to_driver=False)
        @ray.remote
        def get():
            return os.environ.get("SUBMITTED")
        print(ray.get(get.remote()))
        """,
        RAY_JOB_CONFIG_JSON_ENV_VAR=text,
    )
    assert out.split()[-1] == "yes"


@pytest.mark.row("12.connection")
def test_the_address_of_the_environment(no_cluster):
    context = start(namespace="of-the-first")
    keeper = Counter.options(name="keeper").remote()
    assert ray.get(keeper.value.remote()) == 1
    out = run_driver(
        """
        from compat_target import ray
        ray.init(namespace="of-the-first", log_to_driver=False)
        print(ray.get(ray.get_actor("keeper").value.remote()), len(ray.nodes()))
        """,
        RAY_ADDRESS=context.address_info["gcs_address"],
    )
    assert out.split()[-2:] == ["1", "1"]


@pytest.mark.row("12.connection")
@pytest.mark.parametrize(
    ("option", "said"),
    [("", "no" if ON_RAY else "from outside"), ("runtime_env={}", "no")],  # Ray: ray.client() only
)
def test_the_runtime_environment_of_the_environment(option, said):
    out = run_driver(
        f"""
        import os
        from compat_target import ray, start
        start(log_to_driver=False, {option})
        print("OUTSIDE" in os.environ)
        get = ray.remote(lambda: os.environ.get("OUTSIDE", "no"))
        print(ray.get(get.remote()))
        """,
        RAY_RUNTIME_ENV='{"env_vars": {"OUTSIDE": "from outside"}}',
    )
    assert out.splitlines()[-2:] == ["False", said]


@pytest.mark.row("12.logs")
def test_retries_of_the_environment(tmp_path):
    out = run_driver(
        f"""
        import os
        from compat_target import exceptions, ray, start
        start(log_to_driver=False)
        @ray.remote
        def die():
            with open({str(tmp_path / "runs")!r}, "a") as file:
                file.write("x")
            os._exit(1)
        try:
            ray.get(die.remote())
        except exceptions.WorkerCrashedError:
            print(os.path.getsize({str(tmp_path / "runs")!r}))
        """,
        RAY_TASK_MAX_RETRIES="1",
    )
    assert "\n2\n" in "\n" + out


@pytest.mark.row("1.auto_init", "12.connection")
def test_no_automatic_start():
    out = run_driver(
        """
        from compat_target import ray
        try:
            ray.put(1)
        except Exception as error:
            print(type(error).__mro__[-3].__name__, ray.is_initialized())
        """,
        RAY_ENABLE_AUTO_CONNECT="0",
    )
    assert out.split()[-1] == "False"


# --------------------------------------------------------------------------------- how it ends


@pytest.mark.row("1.shutdown")
def test_sigterm_lets_exit_handlers_run():
    source = """
        import atexit, signal, sys, time
        from compat_target import ray, start
        start(log_to_driver=False)
        atexit.register(lambda: print("handled", flush=True))
        print("ready", flush=True)
        @ray.remote
        def wait():
            time.sleep(100)
        ray.get(wait.remote())
    """
    env = dict(os.environ, SKATE_COMPAT_TARGET=TARGET)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [HERE, env.get("PYTHONPATH", "")]))
    driver = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)], env=env, stdout=subprocess.PIPE, text=True
    )
    while "ready" not in driver.stdout.readline():
        assert driver.poll() is None
    driver.send_signal(signal.SIGTERM)
    out, _ = driver.communicate(timeout=60)
    assert "handled" in out and driver.returncode in (signal.SIGTERM, -signal.SIGTERM)


@pytest.mark.row("1.shutdown")
def test_a_sigterm_handler_of_the_programs_own():
    if ON_RAY:
        pytest.skip("Ray replaces it")
    run_driver(
        """
        import signal
        from compat_target import start
        def own(number, frame):
            pass
        signal.signal(signal.SIGTERM, own)
        start()
        assert signal.getsignal(signal.SIGTERM) is own
        """
    )


# ------------------------------------------------------------------------ client, constants, names


@pytest.mark.row("1.client")
def test_the_spelling_of_the_client():
    if ON_RAY:
        pytest.skip("needs a proxy server")
    out = run_driver(
        """
        from compat_target import ray
        builder = ray.client("local").namespace("n").env({"env_vars": {"A": "1"}})
        assert isinstance(builder, ray.ClientBuilder)
        with builder.connect() as context:
            print(ray.get_runtime_context().namespace, context.ray_version == ray.__version__)
        print(ray.is_initialized())
        """
    )
    assert out.split() == ["n", "True", "False"]


@pytest.mark.row("1.constants")
def test_constants():
    assert (ray.SCRIPT_MODE, ray.WORKER_MODE) == (0, 1)
    assert ray.RESTORE_WORKER_MODE != ray.SPILL_WORKER_MODE
    assert "PYTHON" in str(ray.Language.PYTHON) and ray.Language.JAVA != ray.Language.CPP
    assert isinstance(ray.__version__, str) and isinstance(ray.__commit__, str)


@pytest.mark.row("1.constants")
def test_logging_config():
    config = ray.LoggingConfig(encoding="JSON", log_level="DEBUG")
    assert (config.encoding, config.log_level) == ("JSON", "DEBUG")
    assert ray.LoggingConfig().encoding == "TEXT"
    with pytest.raises(ValueError):
        ray.LoggingConfig(encoding="XML")
    with pytest.raises(ValueError):
        ray.LoggingConfig(additional_log_standard_attrs=["nonsense"])


@pytest.mark.row("1.constants")
def test_logging_config_in_workers():
    out = run_driver(
        """
        import json, logging, sys
        from compat_target import ray, start
        start(logging_config=ray.LoggingConfig(
            encoding="JSON", log_level="INFO", additional_log_standard_attrs=["name"]))
        @ray.remote
        def level():
            root = logging.getLogger()
            record = logging.LogRecord("a.b", logging.INFO, "f.py", 3, "said %s", ("it",), None)
            handler = root.handlers[-1]
            handler.filter(record)
            return root.level, json.loads(handler.format(record))
        level, line = ray.get(level.remote())
        print(level, line["message"], line["name"], len(line["job_id"]), len(line["task_id"]))
        """
    )
    assert out.split()[-6:] == ["20", "said", "it", "a.b", "8", "48"]


@pytest.mark.row("1.private")
def test_the_global_worker(no_cluster):
    module = importlib.import_module(f"{ray.__name__}._private.worker")
    worker = module.global_worker
    assert not worker.connected
    context = start(namespace="n")
    assert worker.connected and worker.mode == ray.SCRIPT_MODE and worker.namespace == "n"
    assert worker.current_job_id.hex() == ray.get_runtime_context().get_job_id()
    assert len(worker.worker_id) == 28 and worker.actor_id.is_nil()
    assert worker.node.address_info["gcs_address"] == context["gcs_address"]
    assert worker.core_worker is not None
    assert ray.worker.global_worker is worker

    @ray.remote
    def mode():
        found = importlib.import_module(f"{ray.__name__}._private.worker").global_worker
        return found.mode, found.connected

    assert ray.get(mode.remote()) == (ray.WORKER_MODE, True)


@pytest.mark.row("1.private")
def test_other_private_names(cluster):
    for name in ("services", "utils", "ray_constants", "state"):
        importlib.import_module(f"{ray.__name__}._private.{name}")
    services = importlib.import_module(f"{ray.__name__}._private.services")
    assert services.get_node_ip_address().count(".") == 3
    utils = importlib.import_module(f"{ray.__name__}._private.utils")
    assert utils.get_system_memory() > 10**6
