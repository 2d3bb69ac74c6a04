"""Helpers that programs written for RLlib import."""
