"""Every combination of answers, proven: generated, checked, trained, resumed, exported and served.

python -m tests.matrix [--sample N --seed S] [--device cuda] [--only "framework=ignite,hpo=optuna"]
"""
