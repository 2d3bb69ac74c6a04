"""The errors that Tune raises itself (what a trial's own code raises is carried inside them)."""

from __future__ import annotations


class TuneError(Exception):
    """Something about an experiment is wrong: its definition, its results or its trials."""


class TuneStopTrialError(TuneError):
    """Raised by user code to end its own trial as a success."""
