"""The task: what is learnt from what. This folder is yours; nothing else has to change with it."""

INTERFACE = 1  # of `interface`, which this folder was written for
