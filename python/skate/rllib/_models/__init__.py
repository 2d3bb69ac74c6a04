"""What algorithms over models of the user's own share, whatever the framework.

base.py has ModelEngine, which answers to what skate._rl.Algo answers to: advantages, minibatches,
draws and checks in numpy. A framework adds an engine with its model, gradients and optimiser
(skate.rllib._torch, skate.rllib._tf) and a module of operations (numpy's: array_ops.py), over which
dist.py and losses.py are written once. choose.py says which framework a model is of; spaces.py has
observations as models see them. Nothing here imports torch or TensorFlow.
"""
