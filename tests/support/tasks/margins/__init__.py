"""Digits by the angle to a learned center of each: a task whose loss has parameters of its own."""

INTERFACE = 1
