"""Algorithms over models of the user's own in PyTorch.

engine.py has TorchEngine, which answers to what skate._rl.Algo answers to, so that samplers and
plans work with either; model.py makes one face of TorchModelV2, RLModule and plain nn.Module;
dist.py has the distributions and losses.py the losses. Nothing outside this folder and the base
classes in models/torch and core/rl_module/torch imports torch, and this folder is imported only
when a config names a custom model.
"""
