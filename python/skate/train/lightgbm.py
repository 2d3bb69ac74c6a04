"""Not here yet: see skate._absent."""

from skate._absent import refuse_module

refuse_module("train.lightgbm")
