import narf
def train(lr=0.01, momentum=0.9, batch_size=64, epochs=2, device="cpu"):
    for epoch in range(epochs):
        narf.log(loss=lr)
if __name__ == "__main__":
    train()
