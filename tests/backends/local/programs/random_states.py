"""Numbers that no two runs may share."""

import multiprocessing
import random
import secrets
import tempfile
import uuid

import numpy
import torch

print(random.random(), numpy.random.rand(), torch.rand(1).item(), uuid.uuid4(), secrets.token_hex(4), sep="\n")
print(tempfile.mkdtemp(dir="."), bytes(multiprocessing.current_process().authkey).hex(), sep="\n")
