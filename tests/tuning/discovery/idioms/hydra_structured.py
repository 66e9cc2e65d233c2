from dataclasses import dataclass, field
import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING
@dataclass
class OptimizerConf:
    lr: float = 0.01
    momentum: float = 0.9
@dataclass
class ModelConf:
    hidden: int = 64
    dropout: float = 0.2
@dataclass
class Config:
    optimizer: OptimizerConf = field(default_factory=OptimizerConf)
    model: ModelConf = field(default_factory=ModelConf)
    seed: int = 1
    data_dir: str = "data"
cs = ConfigStore.instance()
cs.store(name="config", node=Config)
@hydra.main(version_base=None, config_name="config")
def main(cfg: Config) -> None:
    import narf
    narf.log(valid_loss=cfg.optimizer.lr)
if __name__ == "__main__":
    main()
