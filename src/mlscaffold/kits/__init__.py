"""Starter kits of a team: find, judge, render, check and release them."""
