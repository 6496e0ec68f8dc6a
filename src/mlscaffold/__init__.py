"""Generates runnable PyTorch training projects with PyTorch Lightning or PyTorch-Ignite."""

__version__ = "0.10.0"
