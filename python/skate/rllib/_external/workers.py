"""ExternalSet: what a trainer has in place of a WorkerSet when its episodes come from outside."""

from __future__ import annotations

import threading
from typing import Any

from skate.rllib import _metrics, _spaces
from skate.rllib._errors import EnvError, UnsupportedConfigError
from skate.rllib._external.recorder import Recorder, stacked
from skate.rllib._specs import Spec


def is_external(spec: Spec, config: dict[str, Any]) -> bool:
    """Whether episodes come from an ExternalEnv, or from a callable 'input' of an algorithm that
    does not take recorded data there."""
    from skate.rllib.env.external_env import ExternalEnv

    env = config["env"]
    served = callable(config["input"]) and spec.offered.get("input", ()) is not None
    return served or (isinstance(env, type) and issubclass(env, ExternalEnv))


class IOContext:
    """What a callable config['input'] is called with (RLlib's offline.io_context)."""

    def __init__(self, config: dict[str, Any], recorder: Recorder) -> None:
        self.config = config
        self.worker_index = 0
        self.recorder = recorder
        self.log_dir = ""


class ExternalSet:
    """One ExternalEnv in a thread, or one server of clients."""

    def __init__(self, config: dict[str, Any], seed: int) -> None:
        if config["output"] is not None:
            raise UnsupportedConfigError("output: what clients and ExternalEnvs do is not recorded")
        self._config, self._seed = config, seed
        self.local: Any = None
        self.remote: list[Any] = []
        self.replaced = 0
        self._env: Any = None
        self._input: Any = None
        self._recorder: Recorder | None = None
        if not callable(config["input"]):
            from skate.rllib._env import EnvContext

            self._env = config["env"](EnvContext(config["env_config"]))
        self._spaces = self._find_spaces()

    def _find_spaces(self) -> tuple[Any, Any]:
        if self._env is not None:
            return self._env.observation_space, self._env.action_space
        given = self._config["observation_space"], self._config["action_space"]
        if None in given:
            raise EnvError("a config whose episodes come from outside needs "
                           "'observation_space' and 'action_space'")
        return given

    def describe(self) -> dict[str, Any]:
        """The spaces as plain data."""
        return {"obs_space": _spaces.describe(self._spaces[0]),
                "action_space": _spaces.describe_actions(self._spaces[1])}

    def spaces(self) -> tuple[Any, Any]:
        """The space objects."""
        return self._spaces

    def configure(self, job: dict[str, Any], engine: Any = None) -> None:
        """Make the recorder, and start what drives it."""
        about = self.describe()
        self._recorder = Recorder(job, about["obs_space"], about["action_space"], self._seed)
        if self._env is None:
            self._input = self._config["input"](IOContext(self._config, self._recorder))
            if hasattr(self._input, "start"):
                self._input.start(self._recorder)
        else:
            threading.Thread(target=self._drive, name="external-env", daemon=True).start()

    def _drive(self) -> None:
        recorder = self._recorder
        assert recorder is not None
        try:
            self._env.drive(recorder)
        except BaseException as error:
            recorder.fail(error)
        else:
            recorder.fail(EnvError(f"run() of {type(self._env).__name__} has returned: it must "
                                   "go on starting episodes"))

    def record(self, about: dict[str, Any], log_dir: Any) -> None:
        """Nothing: `output` is refused."""

    def collect(self, policy: Any, steps: int, timestep: int, known: Any = None
                ) -> list[tuple[dict[str, Any], _metrics.Episodes]]:
        """`steps` rows, whoever's; waits for them."""
        assert self._recorder is not None
        self._recorder.timestep = timestep
        self._recorder.set_weights(policy.flat_weights(), policy.version)
        if hasattr(self._input, "publish"):
            self._input.publish(policy.flat_weights(), policy.version)
        parts, ended = self._recorder.take(steps)
        return [(stacked(parts), ended)]

    def columns(self) -> int:
        """Environments: one, as nobody knows."""
        return 1

    def step_ms(self) -> float:
        """Not known."""
        return 0.0

    def stop(self) -> None:
        """End the thread or the server; whoever drives gets an ExternalClosedError."""
        if self._recorder is not None:
            self._recorder.close()
        if self._input is not None and hasattr(self._input, "stop"):
            self._input.stop()
