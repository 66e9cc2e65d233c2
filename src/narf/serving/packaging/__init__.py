"""From a trained model to a serving package: load the original, export it, compare, measure, keep the faster that agrees.

It runs the user's code (classes, pickles), so it runs as a process of its own: `python -m narf.serving.packaging`.
"""
