"""QMIX, with VDN as mixer 'vdn'."""

from __future__ import annotations

from typing import Any

from skate.rllib import _config
from skate.rllib._specs import Spec

Config = dict[str, Any]

DEFAULTS: Config = _config.with_common_config({
    "mixer": "qmix",
    "mixing_embed_dim": 32,
    "double_q": True,
    "optim_alpha": 0.99,
    "optim_eps": 1e-5,
    "evaluation_config": {"explore": False},
    "timesteps_per_iteration": 1000,
    "exploration_config": {"type": "EpsilonGreedy", "initial_epsilon": 1.0,
                           "final_epsilon": 0.02, "epsilon_timesteps": 10_000},
    "target_network_update_freq": 500,
    "buffer_size": 1000,
    "replay_buffer_config": {},
    "store_buffer_in_checkpoints": None,
    "lr": 5e-4,
    "lr_schedule": None,
    "grad_norm_clipping": 10,
    "learning_starts": 1000,
    "rollout_fragment_length": 4,
    "batch_mode": "complete_episodes",
    "train_batch_size": 32,
    "num_workers": 0,
    "worker_side_prioritization": False,
    "training_intensity": None,
    "tau": 1.0,
})
DEFAULTS["model"].update({"fcnet_hiddens": [64], "fcnet_activation": "relu",
                          "lstm_cell_size": 64, "max_seq_len": 100})


def options(config: Config) -> dict[str, Any]:
    """What the engine is told."""
    return {"mixer": config["mixer"] or "none", "mixing_embed_dim": config["mixing_embed_dim"],
            "double_q": bool(config["double_q"]), "gamma": config["gamma"], "lr": config["lr"],
            "optim_alpha": config["optim_alpha"], "optim_eps": config["optim_eps"],
            "grad_clip": float(config["grad_norm_clipping"] or 0.0), "tau": config["tau"],
            "fcnet_hiddens": [float(n) for n in config["model"]["fcnet_hiddens"]],
            "fcnet_activation": config["model"]["fcnet_activation"],
            "lstm_cell_size": config["model"]["lstm_cell_size"]}


def checks(config: Config) -> None:
    """QMIX's own limits."""
    if config["mixer"] not in ("qmix", "vdn", None):
        raise ValueError(f"mixer must be 'qmix', 'vdn' or None, got {config['mixer']!r}")
    longest = config["model"]["max_seq_len"]
    if isinstance(longest, bool) or not isinstance(longest, int) or not 2 <= longest <= 1 << 20:
        raise ValueError("model.max_seq_len, the longest piece of an episode that is kept, must "
                         f"be 2 to {1 << 20}, got {longest!r}")


SPECS = [Spec("QMIX", DEFAULTS, "qmix:QMixPlan", "QMIX", options=options, checks=checks,
              columns=(), target_by_plan=True, renamed={"grad_clip": "grad_norm_clipping"},
              offered={"batch_mode": None, "clip_rewards": None, "model.use_lstm": None,
                       "model.fcnet_activation": None})]
