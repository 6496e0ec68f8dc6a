"""Score the best weights of a run on the test split: `python -m <package>.evaluate [--run DIR]`."""

import torch
from sklearn.metrics import confusion_matrix

from . import data, objective, predict
from .config import UserError, parse, plain_errors


@torch.inference_mode()
def main() -> None:
    with plain_errors():
        cfg, args = parse("evaluate", of_run=True)
        predictor = predict.Predictor(args.run, cfg)
        images = data.load_images(cfg.data)
        if (images.classes, images.shape) != (predictor.classes, predictor.shape):
            raise UserError(f"data.root={cfg.data.root}: its classes, or shapes of images, are not those of the model.")

        batches = [(predictor.net(batch), labels) for batch, labels in data.build_eval_loader(images.test, cfg)]
        logits, labels = map(torch.cat, zip(*batches, strict=True))
        counts = confusion_matrix(labels, logits.argmax(dim=1), labels=range(len(images.classes)))

        scores = {"loss": objective.loss(logits, labels).item(), **objective.scores(torch.from_numpy(counts))}
        print("\n".join(f"test/{name} {score:.4f}" for name, score in scores.items()))


if __name__ == "__main__":
    main()
