"""Policies' data under RLlib's paths: sample_batch."""

from __future__ import annotations
