"""Two ranks on gloo, started by the program itself."""

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def rank(index, port):
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=index, world_size=2)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    model(torch.full((2, 4), float(index + 1))).sum().backward()
    if index == 0:
        print("gradient", model.module.weight.grad.tolist(), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(rank, args=(port,), nprocs=2)
    print("done")
