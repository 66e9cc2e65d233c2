import dataclasses
import tyro
@dataclasses.dataclass(frozen=True)
class AdamW:
    lr: float = 3e-4
    weight_decay: float = 0.01
@dataclasses.dataclass(frozen=True)
class Args:
    optim: AdamW = AdamW()
    hidden_dim: int = 128
    grad_clip: float = 1.0
    use_ema: bool = False
    exp_name: str = "run"
    seed: int = 1
def main(args: Args):
    import narf
    narf.log(val_loss=args.optim.lr)
if __name__ == "__main__":
    main(tyro.cli(Args))
