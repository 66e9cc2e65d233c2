from dataclasses import dataclass
from simple_parsing import ArgumentParser, subgroups
@dataclass
class HParams:
    """Hyper-parameters."""
    learning_rate: float = 1e-3  # step size
    batch_size: int = 128
    n_estimators: int = 100
    early_stopping: bool = False
    log_dir: str = "logs"
def main():
    parser = ArgumentParser()
    parser.add_arguments(HParams, dest="hparams")
    args = parser.parse_args()
    hp: HParams = args.hparams
    import narf
    narf.log(rmse=hp.learning_rate)
main()
