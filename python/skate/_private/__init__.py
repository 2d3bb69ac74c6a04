"""Names inside of Ray that libraries reach for all the same."""

from __future__ import annotations
