"""Callbacks under their newer path."""

from __future__ import annotations
