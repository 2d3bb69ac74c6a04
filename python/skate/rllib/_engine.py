"""Engines from a spec, a config and the spaces: the C engine's algorithms, or those over a model of
the user's own in PyTorch or TensorFlow (skate.rllib._models)."""

from __future__ import annotations

from typing import Any

from skate.rllib import _spaces
from skate.rllib._errors import UnsupportedConfigError
from skate.rllib._specs import Spec


def model_options(config: dict[str, Any]) -> dict[str, Any]:
    """The options that algo_net_opts() of the engine reads, from config['model']: what is at its
    default is left out, so that an algorithm without such nets takes it."""
    model = config["model"]
    told: dict[str, Any] = {"fcnet_hiddens": [float(n) for n in model["fcnet_hiddens"]],
                            "fcnet_activation": model["fcnet_activation"]}
    if model["conv_filters"]:
        told["conv_filters"] = [float(n) for layer in model["conv_filters"]
                                for n in _conv_layer(layer)]
        told["conv_activation"] = model["conv_activation"]
    if model["post_fcnet_hiddens"]:
        told["post_fcnet_hiddens"] = [float(n) for n in model["post_fcnet_hiddens"]]
        told["post_fcnet_activation"] = model["post_fcnet_activation"]
    if model["use_lstm"]:
        told["use_lstm"] = True
        told["lstm_cell_size"] = model["lstm_cell_size"]
    for key in ("vf_share_layers", "free_log_std", "no_final_linear"):
        if model[key]:
            told[key] = True
    return told


def _conv_layer(layer: Any) -> tuple[int, int, int]:
    """[filters, kernel, stride], where RLlib writes a kernel as [height, width]."""
    try:
        filters, kernel, stride = layer
        if isinstance(kernel, (list, tuple)):
            if len(set(kernel)) != 1:
                raise ValueError("kernels are square here")
            kernel = kernel[0]
        return int(filters), int(kernel), int(stride)
    except (TypeError, ValueError) as error:
        raise ValueError("conv_filters must be [[filters, kernel, stride], ...], got "
                         f"{layer!r}: {error}") from error


OWN = ("torch:", "tf:")     # before the name of an algorithm over a model of the user's own
OWN_NUMBERS = {
    "gamma": 0.99, "lambda": 1.0, "lr": 5e-5, "clip_param": 0.3, "vf_clip_param": 10.0,
    "vf_loss_coeff": 1.0, "entropy_coeff": 0.0, "kl_coeff": 0.2, "kl_target": 0.01,
    "grad_clip": None, "sgd_minibatch_size": 128, "num_sgd_iter": 30,
    "vf_clip_mode": "value", "kl_update": "mean", "shuffle_sequences": True,
    "wrap_minibatches": False,
    "opt_type": "adam", "decay": 0.99, "momentum": 0.0, "epsilon": 0.1, "loss_mean": False,
}


# Keys that only the C engine's nets have another value of.
OWN_FIXED = {"use_critic": True, "use_gae": True, "ortho_init": False}


def own_kind(config: dict[str, Any]) -> str | None:
    """"torch" or "tf" of a config with a model of the user's own, else None. ValueError: nobody
    registered it, or it is not of the config's framework."""
    model = config["model"]
    module = model["_rl_module"]
    if model["custom_model"] is None and module is None:
        return None
    from skate.rllib._models.choose import engine_of
    from skate.rllib.models.catalog import find_model

    return engine_of(config, find_model(model["custom_model"]) if module is None
                     else module["module_class"])


def chosen(spec: Spec, config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """(name, options) of the engine for make(). ValueError: there is none, or see own_kind();
    UnsupportedConfigError: a key that does nothing for a model of the user's own."""
    kind = own_kind(config)
    if kind is not None:
        from skate.rllib.models.catalog import find_model

        for key, value in OWN_FIXED.items():
            if config.get(key, value) != value:
                raise UnsupportedConfigError(f"{key}={config[key]!r} is not offered with a model "
                                             f"of your own, only {value!r}")
        if config.get("opt_type", "adam") not in ("adam", "rmsprop"):
            raise ValueError(f"opt_type must be 'adam' or 'rmsprop', not {config['opt_type']!r}")
        model = config["model"]
        numbers = {k: config.get(k, missing) for k, missing in OWN_NUMBERS.items()}
        if not config.get("use_kl_loss", True):
            numbers["kl_coeff"] = 0.0
        return f"{kind}:{spec.name}", {
            **numbers, "model": {**model, "custom_model": find_model(model["custom_model"])},
            "traced": config["framework"] in ("native", "tf") or bool(config["eager_tracing"])}
    if spec.engine is None:
        raise ValueError(f"{spec.name} has no algorithm of the engine: its plan samples itself")
    return spec.engine, spec.options(config)


def make(name: str, options: dict[str, Any], obs_space: dict[str, Any],
         action_space: dict[str, Any], seed: int) -> Any:
    """A skate._rl.Algo or its like. ValueError: an option nobody uses, a space it cannot have."""
    if name.startswith(OWN):
        from skate.rllib._models.choose import load

        kind, algorithm = name.split(":")
        return load(kind)(algorithm, obs_space, action_space, options, seed)
    from skate import _rl

    if name == FUSED:
        core = _rl.Policy(obs_space["size"], action_space["size"], options["fcnet_hiddens"],
                          options["fcnet_activation"], seed=seed)
        core.seed(seed)
        return FusedActor(core)
    return _rl.Algo(name, _spaces.obs_for_engine(obs_space),
                    _spaces.actions_for_engine(action_space),
                    {**options, **_spaces.team_options(obs_space)}, seed)


def job_of(spec: Spec, config: dict[str, Any], fused: bool = False) -> dict[str, Any]:
    """What a Sampler needs to know of the algorithm; plain data but for callbacks and models."""
    columns: tuple[str, ...] = ()
    if fused:
        model = config["model"]
        name = FUSED
        options = {"fcnet_hiddens": list(model["fcnet_hiddens"]),
                   "fcnet_activation": model["fcnet_activation"]}
    else:
        name, options = chosen(spec, config)
        columns = ("logp", "vf", "inputs") if name.startswith(OWN) else spec.columns
    return {
        "engine": name, "options": options, "columns": columns,
        "exploration": dict(config["exploration_config"]), "explore": bool(config["explore"]),
        "normalize_actions": bool(config["normalize_actions"]),
        "clip_actions": bool(config["clip_actions"]),
        "clip_rewards": config["clip_rewards"], "batch_mode": config["batch_mode"],
        "observation_filter": config["observation_filter"],
        "callbacks": sampling_callbacks(config),
    }


def sampling_callbacks(config: dict[str, Any]) -> Any:
    """The config's callbacks if a worker has to call them, else None."""
    from skate.rllib._callbacks import SAMPLE_HOOKS, CallbackList

    given = config["callbacks"]
    return given if given is not None and CallbackList(given).has(*SAMPLE_HOOKS) else None


FUSED = "fused PPO"


class FusedActor:
    """PPO's fused policy with the calls of skate._rl.Algo that a sampler needs."""

    state_size = 0

    def __init__(self, core: Any) -> None:
        self._core = core
        self.n_inputs = core.n_actions

    def act(self, n: int, columns: dict[str, Any], explore: bool = True) -> None:
        """As Algo.act()."""
        import numpy as np

        def column(name: str, *shape: int) -> Any:
            return columns[name] if name in columns else np.empty((n, *shape), np.float32)

        self._core.compute_actions(columns["obs"], column("inputs", self.n_inputs),
                                   columns["actions"], column("logp"), column("vf"), explore)

    def set_weights(self, weights: Any, version: int = 0) -> None:
        """As Algo.set_weights()."""
        self._core.set_weights(weights, version)
