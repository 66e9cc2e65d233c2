"""Digits with a plain PyTorch loop. Two lines of narf let it resume where it was interrupted; everything else is recorded without.

python train.py --epochs 10
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn

import narf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--epochs", type=int, default=10)
    args = parser.parse_args()

    torch.manual_seed(1)
    digits = load_digits()
    data = torch.utils.data.TensorDataset(torch.tensor(digits.data / 16.0, dtype=torch.float32), torch.tensor(digits.target))
    train, test = torch.utils.data.random_split(data, [1437, 360])
    loader = torch.utils.data.DataLoader(train, batch_size=32, shuffle=True)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.1), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)

    kept = narf.checkpoint(model, optimizer)
    for epoch in kept.epochs(args.epochs):
        model.train()
        for x, y in kept.batches(loader):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            x, y = test.dataset[test.indices]
            accuracy = (model(x).argmax(dim=1) == y).float().mean()
        narf.log({"val_acc": accuracy}, step=epoch)
        print(f"epoch {epoch}: val_acc {accuracy:.4f}")


if __name__ == "__main__":
    main()
