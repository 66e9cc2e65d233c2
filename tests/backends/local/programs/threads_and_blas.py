"""OpenMP and BLAS after the fork: thread counts as granted, and the right answers."""

import os

import numpy
import torch

torch.manual_seed(0)
print("threads", torch.get_num_threads(), os.environ["OMP_NUM_THREADS"])
a = torch.randn(300, 300, requires_grad=True)
loss = (a @ a.T).relu().sum()
loss.backward()
print(f"{loss.item():.6e} {a.grad.norm().item():.6e}")
b = numpy.random.default_rng(0).normal(size=(400, 400))
print(f"{numpy.linalg.norm(b @ b):.9e} {numpy.linalg.eigvalsh(b + b.T)[0]:.9e}")
net = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
opt = torch.optim.Adam(net.parameters())
for _ in range(20):
    opt.zero_grad()
    value = net(torch.randn(32, 64)).pow(2).mean()
    value.backward()
    opt.step()
print(f"{value.item():.6e}")
print(torch.nn.functional.conv2d(torch.ones(8, 3, 32, 32), torch.ones(16, 3, 3, 3)).sum().item())
