"""`skate.remote_function`: the names of Ray's module."""

from skate._remote import RemoteFunction

__all__ = ["RemoteFunction"]
