"""Algorithms by name."""

from __future__ import annotations

# The names of the two eras that are not built (yet), so that the error can say so.
KNOWN_ELSEWHERE = frozenset({
    "A2C", "A3C", "APEX", "APEX_DDPG", "APPO", "ARS", "BC", "CQL", "DDPG", "DDPPO", "DQN",
    "DREAMER", "ES", "IMPALA", "MAML", "MARWIL", "MBMPO", "PG", "QMIX", "R2D2", "RNNSAC", "SAC",
    "SimpleQ", "SlateQ", "TD3", "DreamerV3", "IQL", "TQC", "contrib/RandomAgent",
    "contrib/MADDPG", "contrib/AlphaZero", "contrib/LinTS", "contrib/LinUCB",
})
NAMES = ("PPO",)


def get_trainer_class(alg: str, return_config: bool = False) -> object:
    """The trainer class of an algorithm, or (class, default config). ValueError if unknown."""
    from skate.rllib._ppo import PPOTrainer

    if alg == "PPO":
        return (PPOTrainer, PPOTrainer.get_default_config()) if return_config else PPOTrainer
    if alg in KNOWN_ELSEWHERE:
        raise ValueError(f"the algorithm {alg!r} is not built here; there are: "
                         f"{', '.join(NAMES)}")
    raise ValueError(f"there is no algorithm {alg!r}; there are: {', '.join(NAMES)}")


get_algorithm_class = get_trainer_class
