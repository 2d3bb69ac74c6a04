"""Algorithms over models of the user's own in PyTorch.

engine.py has TorchEngine, ModelEngine (skate.rllib._models) in torch; model.py makes one face of
TorchModelV2, RLModule and plain nn.Module; ops.py has the operations of distributions and losses.
Nothing outside this folder and the base classes in models/torch and core/rl_module/torch imports
torch, and this folder is imported only when a config names a custom model.
"""
