"""The next token of texts of very uneven length: a task whose loss counts tokens, not samples."""

INTERFACE = 1
