"""What enters the user's process: launcher, hooks, spool, checkpoint and resume.

Standard library only, Python 3.9 and later: it runs in the user's environment, in which neither Narf nor its
dependencies need be installed, and is found there by its path (see `launcher`).
"""
