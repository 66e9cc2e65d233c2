from argparse import ArgumentParser, ArgumentDefaultsHelpFormatter
import torch
OPTIONS = {"lr": 1e-3, "momentum": 0.9, "batch_size": 64}
def parse():
    parser = ArgumentParser(formatter_class=ArgumentDefaultsHelpFormatter)
    for name, default in OPTIONS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--epochs", type=int, default=3)
    return parser.parse_args()
args = parse()
opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=args.lr, momentum=args.momentum)
print("loss", args.batch_size)
import narf
narf.log(loss=args.lr)
