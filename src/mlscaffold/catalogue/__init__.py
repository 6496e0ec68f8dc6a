"""The questions of `copier.yml`: read, rendered, taken as flags, asked, listed and chosen between."""
