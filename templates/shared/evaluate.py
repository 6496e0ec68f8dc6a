"""Score the best weights of a run on the test split: `python -m <package>.evaluate [--run DIR]`."""

import torch

from .config import UserError, parse, plain_errors
from .data import build_eval_loader, load_images
from .objective import loss, scores
from .predict import Predictor


@torch.inference_mode()
def main() -> None:
    with plain_errors():
        cfg, args = parse("evaluate", of_run=True)
        predictor = Predictor(args.run, cfg)
        images = load_images(cfg.data)
        if images.classes != predictor.classes:
            raise UserError(f"data.root={cfg.data.root}: its classes are not those of the model.")

        confusion = torch.zeros(len(images.classes), len(images.classes))
        total_loss = 0.0
        for batch, labels in build_eval_loader(images.test, cfg):
            logits = predictor.net(batch)
            total_loss += loss(logits, labels).item() * len(labels)
            confusion.index_put_((labels, logits.argmax(dim=1)), torch.ones(()), accumulate=True)

        print(f"test/loss {total_loss / len(images.test):.4f}")
        for name, score in scores(confusion).items():
            print(f"test/{name} {score:.4f}")


if __name__ == "__main__":
    main()
