"""Which template this is, the releases that there are of it and of kits, and how git and updates get them."""
