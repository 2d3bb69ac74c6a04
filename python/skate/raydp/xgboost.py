"""Not here: the error says what to use meanwhile."""

from skate.raydp import _refuse_module

_refuse_module("xgboost")
