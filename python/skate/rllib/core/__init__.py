"""The 2.x era's modules of the user's own, and the names of batch columns."""
