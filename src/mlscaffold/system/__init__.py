"""What the tool needs of the machine: git, a terminal, programs, file names, YAML, bounds on time, memory."""
