import json

import narf


def main():
    lr = 0.02
    hidden, batch = 24, 50
    dropout = 0.1
    epochs = 20
    clients = 300
    print(json.dumps({"lr": lr, "hidden": hidden, "batch": batch, "dropout": dropout}))
    for _ in range(epochs):
        narf.log(loss=lr * hidden * batch * clients)


if __name__ == "__main__":
    main()
