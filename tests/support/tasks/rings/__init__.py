"""A task of two networks: a generator makes points on a ring, a discriminator tells them from real ones."""

INTERFACE = 1
