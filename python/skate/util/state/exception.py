"""Errors of the state API, under Ray's names."""

from __future__ import annotations


class RayStateApiException(Exception):
    """The question could not be answered; the text says why and what to do."""


class ServerUnavailable(RayStateApiException):
    """No cluster answers."""


class DataSourceUnavailable(Exception):
    """A part of the cluster does not answer."""


__all__ = ["DataSourceUnavailable", "RayStateApiException", "ServerUnavailable"]
