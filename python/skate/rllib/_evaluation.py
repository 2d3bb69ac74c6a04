"""Evaluation: episodes of a config of their own, played here or by evaluation workers.

evaluation_config is laid over the trainer's config (env, env_config, explore, horizon, ...).
With evaluation_num_workers the episodes are played by actors, with evaluation_parallel_to_training
while the iteration trains. evaluation_duration is a number of episodes or of timesteps
(evaluation_duration_unit); "auto" is one round of at least 10 episodes.
"""

from __future__ import annotations

from typing import Any

from skate.rllib import _env, _metrics, _pictures

SEED_OFFSET = 1_000_000


class Evaluation:
    """The evaluation side of one trainer; its workers are started at the first use."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._set: Any = None
        self._asked: Any = None
        config = trainer.config
        extra = dict(config["evaluation_config"])
        model = extra.pop("model", None)
        self.config: dict[str, Any] = trainer._merge({**_given(config), **extra})
        if model:
            self.config["model"] = {**self.config["model"], **model}
        self.config["num_workers"] = config["evaluation_num_workers"]
        self.config["in_evaluation"] = True
        self.config["batch_mode"] = "truncate_episodes"

    def amount(self) -> tuple[int, str]:
        """How much to play: (number, 'episodes' or 'timesteps')."""
        config = self._trainer.config
        workers = max(1, config["evaluation_num_workers"])
        if config["evaluation_duration"] == "auto":
            return max(10, workers), "episodes"
        if config["evaluation_duration"] != 10:
            return int(config["evaluation_duration"]), str(config["evaluation_duration_unit"])
        return max(1, int(config["evaluation_num_episodes"])), str(
            config["evaluation_duration_unit"])

    def start(self) -> None:
        """Ask the workers to play; result() waits for them."""
        from skate.rllib._worker_set import WorkerSet

        trainer = self._trainer
        plan, amount = trainer.plan, self.amount()
        if not plan.needs_workers:
            self._asked = ("here", amount)
            return
        if self._set is None:
            self._set = WorkerSet(self.config, trainer._seed + SEED_OFFSET,
                                  plan.evaluation_worker)
            self._set.configure({**plan.job(self.config), "evaluation": True})
        self._asked = self._set.ask_to_play(trainer.evaluated_policy(), *amount,
                                            bool(self.config["explore"]), plan.known)

    def result(self) -> dict[str, Any]:
        """{'evaluation': statistics of the episodes} of what start() began."""
        asked, self._asked = self._asked, None
        episodes = _metrics.Episodes()
        if asked[0] == "here":
            self._play(*asked[1], episodes)
        else:
            for played in self._set.played(asked):
                episodes.extend(played)
        result = _metrics.summary(episodes.rewards, episodes.lengths)
        result.update(_metrics.more_of(episodes))
        result["episodes_this_iter"] = len(episodes.rewards)
        result["timesteps_this_iter"] = sum(episodes.lengths)
        result["env_runners"] = {
            "episode_return_mean": result["episode_reward_mean"],
            "episode_return_max": result["episode_reward_max"],
            "episode_return_min": result["episode_reward_min"],
            "episode_len_mean": result["episode_len_mean"],
            "num_episodes": len(episodes.rewards),
            "num_env_steps_sampled": sum(episodes.lengths)}
        _metrics.also(result, episodes)
        return {"evaluation": result}

    def _play(self, amount: int, unit: str, episodes: _metrics.Episodes) -> None:
        """By the policy's own compute_single_action(): plans that have no sampler's job."""
        config, trainer = self.config, self._trainer
        env = _env.make_env(config["env"], _env.EnvContext(config["env_config"]),
                            config["horizon"], config["native_env"] and not config["render_env"],
                            _pictures.options(config))
        seed: int | None = trainer._seed + SEED_OFFSET
        try:
            while (len(episodes.rewards) if unit == "episodes"
                   else sum(episodes.lengths)) < amount:
                obs, total, steps, done = _env.first_obs(env, seed), 0.0, 0, False
                seed = None
                while not done:
                    action = trainer.compute_single_action(obs, explore=config["explore"])
                    obs, reward, terminated, truncated, _info = _env.five(env.step(action))
                    total += float(reward)
                    steps += 1
                    done = terminated or truncated
                episodes.rewards.append(total)
                episodes.lengths.append(steps)
        finally:
            _env.close_env(env)

    def stop(self) -> None:
        """End the workers."""
        if self._set is not None:
            self._set.stop()
            self._set = None


def _given(config: dict[str, Any]) -> dict[str, Any]:
    """A full config without what evaluation must not have again."""
    return {key: value for key, value in config.items() if key != "evaluation_config"}
