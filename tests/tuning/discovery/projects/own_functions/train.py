import json

import narf


class Net:
    def __init__(self, inputs, hidden_size=36, dropout=0.15):
        self.settings = {"hidden_size": hidden_size, "dropout": dropout}


def loaders(batch_size=64, n=300):
    return batch_size


def make_data(noise=0.1, rows=100):
    return noise * rows


def train(net, lr, decay=0.01):
    print(json.dumps({**net.settings, "batch_size": loaders(), "lr": lr, "decay": decay}))
    narf.log(val_loss=lr + make_data())


def main():
    train(Net(7), 0.05)


main()
