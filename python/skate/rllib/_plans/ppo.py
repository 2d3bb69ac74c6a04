"""PPO: the fused recorder and learner in C where they fit, else the on-policy plan."""

from __future__ import annotations

from typing import Any

from skate.rllib import _config, _engine, _metrics
from skate.rllib._errors import UnsupportedSpaceException
from skate.rllib._plans import Plan, Step
from skate.rllib._plans.on_policy import OnPolicyPlan

LEARNER_FILE = "learner.bin"
WEIGHTS_FILE = "weights.f32"


class FusedPPOPlan(Plan):
    """Fragments from the recorder of the C engine, one update of its learner on all CPUs."""

    def build(self, about: dict[str, Any], workers: Any) -> None:
        """Policy and learner."""
        super().build(about, workers)
        from skate import _rl
        from skate.rllib._policy import NativePolicy

        config, model = self.config, self.config["model"]
        self._core = _rl.Policy(self.obs_space["size"], self.action_space["size"],
                                list(model["fcnet_hiddens"]), model["fcnet_activation"],
                                seed=self.seed)
        self._policy = NativePolicy(self._core, config, self.obs_space, self.action_space)
        self.policies = {_metrics.DEFAULT_POLICY: self._policy}
        self._learner = self._make_learner()

    def _make_learner(self) -> Any:
        from skate import _rl

        config = self.config
        return _rl.Learner(
            self._core, gamma=config["gamma"], lambda_=config["lambda"], lr=config["lr"],
            clip=config["clip_param"], vf_clip=config["vf_clip_param"],
            vf_coeff=config["vf_loss_coeff"], entropy_coeff=config["entropy_coeff"],
            vf_clip_loss=config["vf_clip_mode"] == "loss", kl_last=config["kl_update"] == "last",
            shuffle=config["shuffle_sequences"], wrap=config["wrap_minibatches"],
            kl_target=config["kl_target"],
            kl_coeff=config["kl_coeff"] if config["use_kl_loss"] else 0.0,
            grad_clip=config["grad_clip"] or 0.0, minibatch=config["sgd_minibatch_size"],
            epochs=config["num_sgd_iter"], threads=_config.learner_threads(config),
            seed=self.seed)

    def train_once(self) -> Step:
        """Weights out, a fragment of each worker in, one update."""
        entropy_coeff = self.scheduled("entropy_coeff")
        lr = self.scheduled("lr")
        fragments = self.workers.sample(self._policy.flat_weights(), self._core.version)
        self.watch.lap("sample")
        self._learner.set(lr=lr, entropy_coeff=entropy_coeff)
        stats = self._learner.update(fragments)
        self.watch.lap("learn")
        samples = stats.pop("samples")
        self.counters["sampled"] += samples
        self.counters["trained"] += samples
        stats = {name: stats[name] for name in _metrics.PPO_STATS}
        stats["entropy_coeff"] = entropy_coeff
        return Step({_metrics.DEFAULT_POLICY: stats}, samples, _metrics.episodes_of(fragments))

    def job(self, config: dict[str, Any]) -> dict[str, Any]:
        """For evaluation: the fused policy in a sampler."""
        return _engine.job_of(self.spec, config, fused=True)

    def describe_state(self) -> dict[str, Any]:
        """The nets' shape and version."""
        return {"model": {key: self.config["model"][key]
                          for key in ("fcnet_hiddens", "fcnet_activation")},
                "policy_version": self._core.version}

    def save(self) -> dict[str, bytes]:
        """Weights and optimiser."""
        return {WEIGHTS_FILE: self._policy.flat_weights().tobytes(),
                LEARNER_FILE: self._learner.get_state()}

    def load(self, files: dict[str, bytes], state: dict[str, Any]) -> None:
        """Those of a trainer of the same nets."""
        import numpy as np

        if list(state["model"]["fcnet_hiddens"]) != list(self.config["model"]["fcnet_hiddens"]):
            raise ValueError("the checkpoint is of other nets than this trainer's: fcnet_hiddens "
                             f"{state['model']['fcnet_hiddens']}")
        weights = np.frombuffer(files[WEIGHTS_FILE], np.float32)
        if weights.size != self._core.n_weights:
            raise ValueError(f"{WEIGHTS_FILE} holds {weights.size} weights, not "
                             f"{self._core.n_weights}")
        if state["seed"] != self.seed:      # the order of minibatches comes from it
            self.seed = state["seed"]
            self._learner = self._make_learner()
        self._learner.set_state(files[LEARNER_FILE])
        self._core.set_weights(weights, state["policy_version"])


class PPOPlan(OnPolicyPlan):
    """PPO through the tape: continuous actions, recurrent and convolutional nets."""

    def choose(self, about: dict[str, Any]) -> type[Plan]:
        """The fused plan if nothing in the config is beyond it."""
        if not self.external and fused(self.config, about):
            return FusedPPOPlan
        model = self.config["model"]
        if (self.spec.engine is None and model["custom_model"] is None
                and model["_rl_module"] is None):
            raise UnsupportedSpaceException(
                f"PPO here has actions of Discrete spaces only, not of {about['action_space']}")
        return type(self)


def fused(config: dict[str, Any], about: dict[str, Any]) -> bool:
    """Whether the recorder and the fused learner can do it."""
    model = config["model"]
    return (about["action_space"]["kind"] == "discrete" and not about.get("vector")
            and len(about["obs_space"].get("shape", ())) != 3       # an image
            and model["fcnet_activation"] in ("tanh", "relu", "linear")
            and not any(model.get(key) for key in (
                "use_lstm", "use_attention", "conv_filters", "post_fcnet_hiddens",
                "no_final_linear", "vf_share_layers", "custom_model", "_rl_module",
                "custom_action_dist"))
            and config["observation_filter"] in (None, "NoFilter")
            and config["batch_mode"] == "truncate_episodes"
            and config["clip_rewards"] in (None, False)
            and _engine.sampling_callbacks(config) is None
            and config["exploration_config"].get("type", "StochasticSampling")
            == "StochasticSampling")
