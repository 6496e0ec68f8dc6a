"""From answers to files: render a project, and write it into place."""
