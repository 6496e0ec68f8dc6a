"""Make a new project: its files, its repository, its installation."""
