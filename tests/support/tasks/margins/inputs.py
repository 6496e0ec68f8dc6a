"""What is exported gives embeddings, which need no centers."""

INPUTS, OUTPUTS = ("vector",), ("embedding",)
Arrays = dict
