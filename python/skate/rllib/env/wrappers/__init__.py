"""Other libraries' environments as RLlib's."""
