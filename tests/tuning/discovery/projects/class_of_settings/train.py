from engine import Experiment


class DepositFlow(Experiment):
    hparams = dict(lr=0.01, hidden=24, batch_size=48, epochs=2)


if __name__ == "__main__":
    DepositFlow().fit()
