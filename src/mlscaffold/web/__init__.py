"""The page of a new project: what it shows, and the server that it has on this machine."""
