"""Bring a project to a newer release or to other answers, as a merge."""
