"""contrib/MADDPG."""

from __future__ import annotations

from typing import Any

from skate.rllib import _config
from skate.rllib._errors import UnsupportedConfigError
from skate.rllib._specs import Spec
from skate.rllib._specs.ddpg import number, widths

Config = dict[str, Any]

MADDPG: Config = _config.with_common_config({
    "agent_id": None,
    "use_local_critic": False,
    "use_state_preprocessor": False,
    "actor_hiddens": [64, 64],
    "actor_hidden_activation": "relu",
    "critic_hiddens": [64, 64],
    "critic_hidden_activation": "relu",
    "n_step": 1,
    "good_policy": "maddpg",
    "adv_policy": "maddpg",
    "exploration_config": {"type": "GaussianNoise", "random_timesteps": 0, "stddev": 0.1,
                           "initial_scale": 1.0, "final_scale": 1.0, "scale_timesteps": 1},
    "evaluation_config": {"explore": False},
    "timesteps_per_iteration": 0,
    "buffer_size": 1_000_000,
    "replay_buffer_config": {},
    "store_buffer_in_checkpoints": None,
    "prioritized_replay": False,
    "training_intensity": None,
    "critic_lr": 1e-2,
    "actor_lr": 1e-2,
    "target_network_update_freq": 0,
    "tau": 0.01,
    "actor_feature_reg": 0.001,
    "grad_norm_clipping": 0.5,
    "adam_epsilon": 1e-8,
    "learning_starts": 1024 * 25,
    "rollout_fragment_length": 100,
    "train_batch_size": 1024,
    "num_workers": 1,
    "min_iter_time_s": 0,
})


def checks(config: Config) -> None:
    """MADDPG's own limits."""
    for name in ("actor_hiddens", "critic_hiddens"):
        widths(config[name], name)
    for name in ("actor_lr", "critic_lr", "tau", "actor_feature_reg"):
        number(config, name)
    for name in ("good_policy", "adv_policy"):
        if config[name] != "maddpg":
            raise UnsupportedConfigError(f"{name}={config[name]!r} is not offered, only 'maddpg'; "
                                         "use_local_critic makes DDPG of all agents")
    if config["use_state_preprocessor"]:
        raise UnsupportedConfigError("use_state_preprocessor is not offered, only False")


def options_of(config: Config) -> dict[str, Any]:
    """MADDPG's options in the engine; the plan adds the agents' sizes."""
    options: dict[str, Any] = {"use_local_critic": bool(config["use_local_critic"])}
    for part in ("actor", "critic"):
        options[f"{part}_hiddens"] = widths(config[f"{part}_hiddens"], f"{part}_hiddens")
        options[f"{part}_hidden_activation"] = config[f"{part}_hidden_activation"]
    for name in ("gamma", "n_step", "actor_lr", "critic_lr", "tau", "actor_feature_reg",
                 "adam_epsilon"):
        options[name] = config[name]
    if config["grad_norm_clipping"]:
        options.update(grad_clip=float(config["grad_norm_clipping"]), grad_clip_by="norm")
    return options


SPECS = [Spec("contrib/MADDPG", MADDPG, "maddpg:MADDPGPlan", "MADDPG", options=options_of,
              checks=checks, columns=(), target_by_plan=True,
              renamed={"grad_clip": "grad_norm_clipping",
                       "num_steps_sampled_before_learning_starts": "learning_starts"},
              offered={"batch_mode": None, "model.fcnet_activation": None})]
