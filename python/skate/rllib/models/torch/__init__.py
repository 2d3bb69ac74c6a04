"""Base classes and layers for models in PyTorch."""
