"""Load a model with transformers alone, and say what it gives; nothing here knows of any project.

    python tests/support/plain_transformers.py AUTO FOLDER TEXT...

Prints JSON: `tokens` of each text by the tokenizer in the folder, and its `logits`.
"""

import json
import sys

import torch
import transformers

AUTO, FOLDER, *TEXTS = sys.argv[1:]
tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)
model = getattr(transformers, AUTO).from_pretrained(FOLDER).eval()
with torch.inference_mode():
    found = [tokenizer(text, return_tensors="pt") for text in TEXTS]
    logits = [model(input_ids=one["input_ids"]).logits[0].tolist() for one in found]
print(json.dumps({"tokens": [one["input_ids"][0].tolist() for one in found], "logits": logits}))
