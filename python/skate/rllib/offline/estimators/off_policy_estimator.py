"""OffPolicyEstimator: the base of all estimators, and what they share."""

from __future__ import annotations

from typing import Any

import numpy as np

from skate.rllib.policy.sample_batch import SampleBatch, convert_ma_batch_to_sample_batch


def n_actions(policy: Any, what: str) -> int:
    """The number of actions of a policy with a discrete action space.

    Raises:
        ValueError: the actions are not discrete.
    """
    space = getattr(policy, "action_space", None)
    if isinstance(space, dict) and space.get("kind") == "discrete":
        return int(space["size"])
    n = getattr(space, "n", None)
    if n is None or hasattr(n, "__len__"):
        raise ValueError(f"{what} works with discrete actions only; the policy's action space is "
                         f"{space}")
    return int(n)


def action_probs(policy: Any, actions: Any, obs: Any) -> Any:
    """pi(a | s) of each row, float64."""
    logp = policy.compute_log_likelihoods(actions=actions, obs_batch=obs)
    return np.exp(np.asarray(logp, np.float64).reshape(-1))


def returns_of(rewards: Any, gamma: float) -> float:
    """The discounted sum of the rewards of one episode."""
    rewards = np.asarray(rewards, np.float64)
    return float(rewards @ np.power(float(gamma), np.arange(len(rewards))))


class OffPolicyEstimator:
    """Estimates the value of `policy` from batches with the columns obs, actions, rewards and
    action_prob (the probability with which the data's policy took the action)."""

    def __init__(self, policy: Any, gamma: float = 0.0, epsilon_greedy: float = 0.0) -> None:
        """`epsilon_greedy`: the share of uniformly random actions that the policy will be run
        with (discrete actions only)."""
        if not 0.0 <= gamma <= 1.0:
            raise ValueError(f"gamma must be 0 to 1, got {gamma}")
        if not 0.0 <= epsilon_greedy <= 1.0:
            raise ValueError(f"epsilon_greedy must be 0 to 1, got {epsilon_greedy}")
        self.policy, self.gamma, self.epsilon_greedy = policy, float(gamma), float(epsilon_greedy)

    def estimate_on_single_episode(self, episode: SampleBatch) -> dict[str, Any]:
        """{"v_behavior", "v_target"} of one whole episode."""
        raise NotImplementedError

    def estimate_on_single_step_samples(self, batch: SampleBatch) -> dict[str, Any]:
        """The same as arrays, for data whose episodes are one step long (bandits)."""
        raise NotImplementedError

    def on_before_split_batch_by_episode(self, sample_batch: SampleBatch) -> SampleBatch:
        """Called with the whole batch before it is split."""
        return sample_batch

    def on_after_split_batch_by_episode(self, all_episodes: list[SampleBatch],
                                        ) -> list[SampleBatch]:
        """Called with the episodes."""
        return all_episodes

    def peek_on_single_episode(self, episode: SampleBatch) -> None:
        """Called with each episode before the first is estimated."""

    def estimate(self, batch: Any, split_batch_by_episode: bool = True) -> dict[str, Any]:
        """v_behavior and v_target (means over episodes) with their standard deviations _std,
        v_gain = v_target / max(v_behavior, 1e-8) and v_delta = v_target - v_behavior.

        Raises:
            ValueError: no "action_prob" in the batch, or an empty batch.
        """
        whole = convert_ma_batch_to_sample_batch(batch)
        self.check_action_prob_in_batch(whole)
        if whole.count == 0:
            raise ValueError("the batch to estimate on is empty")
        if split_batch_by_episode:
            whole = self.on_before_split_batch_by_episode(whole)
            episodes = self.on_after_split_batch_by_episode(whole.split_by_episode())
            for episode in episodes:
                self.peek_on_single_episode(episode)
            found = [self.estimate_on_single_episode(episode) for episode in episodes]
            values = {key: [float(one[key]) for one in found]
                      for key in ("v_behavior", "v_target")}
        else:
            values = self.estimate_on_single_step_samples(whole)
        result: dict[str, Any] = {}
        for key in ("v_behavior", "v_target"):
            result[key] = float(np.mean(values[key]))
            result[f"{key}_std"] = float(np.std(values[key]))
        result["v_gain"] = result["v_target"] / max(result["v_behavior"], 1e-8)
        result["v_delta"] = result["v_target"] - result["v_behavior"]
        return result

    def check_action_prob_in_batch(self, batch: Any) -> None:
        """Raises ValueError if the probabilities of the data's actions are not known."""
        if "action_prob" not in batch:
            raise ValueError(
                "off-policy estimation needs the column 'action_prob': write the data with a "
                "stochastic policy (for DQN exploration_config={'type': 'SoftQ'}), or switch "
                "estimation off with off_policy_estimation_methods={} or input_evaluation=[]")

    def compute_action_probs(self, batch: SampleBatch) -> Any:
        """pi(a | s) of each row under the policy, with its share of random actions."""
        found = action_probs(self.policy, batch["actions"], batch["obs"])
        if self.epsilon_greedy > 0.0:
            n = n_actions(self.policy, "epsilon_greedy")
            found = found * (1 - self.epsilon_greedy) + self.epsilon_greedy / n
        return found

    def _ratios(self, batch: SampleBatch) -> Any:
        """pi(a | s) / the data's probability, each row."""
        old = np.asarray(batch["action_prob"], np.float64)
        if not np.all(old > 0):
            raise ValueError("the column 'action_prob' must be > 0 in every row; row "
                             f"{int(np.argmin(old > 0))} has {old[np.argmin(old > 0)]}")
        return self.compute_action_probs(batch) / old

    def train(self, batch: Any) -> dict[str, Any]:
        """Fit what the estimator learns; nothing in this one."""
        return {}


__all__ = ["OffPolicyEstimator"]
