"""The process of a trial: an actor that builds the trainable and drives it.

One actor may run several trials one after another (see Trainable._share_process_by_default and
reuse_actors): start() then first ends the trial before.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from skate.tune import result as keys
from skate.tune import session


class TrialActor:
    """Holds one Trainable at a time."""

    def __init__(self) -> None:
        self._trainable: Any = None
        self._node_ip = _node_ip()

    def start(self, job: dict[str, Any]) -> dict[str, Any]:
        """Build the trainable of a trial, restore it if asked; say who we are."""
        from skate.tune.registry import _global_registry

        _global_registry.install_entries(job["registry"])
        context = session.TrialContext(**job["context"], node_ip=self._node_ip)
        cls, config, restore = job["trainable"], job["config"], job["restore"]
        if not self._reset(cls, config, context, job["reset"]):
            self.stop()
            session.enter_trial(context)
            try:
                self._trainable = cls(config=config)
            except BaseException:
                session.end_trial(failed=True)
                raise
        if restore is not None:
            self._trainable.restore(restore)
        return {"pid": os.getpid(), "node_ip": self._node_ip, "hostname": socket.gethostname()}

    def _reset(self, cls: type, config: dict[str, Any], context: session.TrialContext,
               allowed: bool) -> bool:
        """Turn the trainable at hand into another trial's, if its class knows how."""
        old = self._trainable
        if not allowed or old is None or type(old).__qualname__ != cls.__qualname__:
            return False
        session.end_trial(failed=False)
        if not old.reset(config):
            return False
        session.enter_trial(context)
        old._trial_id, old._trial_name = context.trial_id, context.trial_name
        old._logdir, old._trial_resources = context.logdir, context.resources
        return True

    def train(self) -> dict[str, Any]:
        """One result. The config stays here: the driver has it."""
        try:
            result = self._trainable.train()
        except BaseException:
            session.end_trial(failed=True)
            raise
        result.pop(keys.CONFIG, None)
        return result

    def save(self, only_if_any: bool = False) -> str | None:
        """Write a checkpoint into the trial's folder; None if there is nothing to write."""
        if only_if_any and not getattr(self._trainable, "has_checkpoint", True):
            return None
        return self._trainable.save()

    def stop(self) -> None:
        """End the trial; the process may get another."""
        trainable, self._trainable = self._trainable, None
        if trainable is not None:
            trainable.stop()
        session.end_trial(failed=False)
        session.enter_trial(None)


def _node_ip() -> str:
    try:
        import skate as ray

        return str(ray.util.get_node_ip_address())
    except Exception:
        return "127.0.0.1"
