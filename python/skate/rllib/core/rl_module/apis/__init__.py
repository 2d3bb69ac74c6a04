"""What else a module can do."""

from __future__ import annotations

from skate.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI

__all__ = ["ValueFunctionAPI"]
