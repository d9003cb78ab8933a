"""Helpers that every room may use; nothing here is public."""
