"""A classifier of handwritten digits in plain PyTorch, configured with argparse."""

import argparse

import mlflow
import torch
from sklearn.datasets import load_digits
from torch import nn


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lr", type=float, default=0.05, help="learning rate")
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--hidden", type=int, default=32, help="units of the hidden layer")
    parser.add_argument("--activation", choices=["relu", "tanh"], default="relu")
    parser.add_argument("--nesterov", action="store_true")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main():
    args = read_arguments()
    torch.manual_seed(args.seed)
    features, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(features, dtype=torch.float32) / 16, torch.tensor(labels)
    activation = {"relu": nn.ReLU, "tanh": nn.Tanh}[args.activation]
    model = nn.Sequential(nn.Linear(64, args.hidden), activation(), nn.Linear(args.hidden, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=args.momentum, nesterov=args.nesterov and args.momentum > 0)
    for epoch in range(args.epochs):
        for batch in torch.randperm(1500).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            scores = model(x[1500:])
        mlflow.log_metric("val_loss", float(nn.functional.cross_entropy(scores, y[1500:])), step=epoch)
        mlflow.log_metric("val_accuracy", float((scores.argmax(1) == y[1500:]).float().mean()), step=epoch)


if __name__ == "__main__":
    main()
