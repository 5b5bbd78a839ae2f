"""Whose request goes next, where, and within which limits."""
