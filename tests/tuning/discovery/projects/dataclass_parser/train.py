import json
from dataclasses import asdict, dataclass, field

from hf_argparser import DataclassArgumentParser

import narf


@dataclass
class ModelArguments:
    d_model: int = field(default=16, metadata={"help": "width of the transformer"})
    n_heads: int = field(default=2, metadata={"help": "attention heads", "choices": [1, 2, 4]})
    attention_dropout: float = field(default=0.0)
    norm_first: bool = field(default=False)


@dataclass
class TrainingArguments:
    learning_rate: float = field(default=5e-4, metadata={"help": "peak learning rate"})
    warmup_ratio: float = 0.1
    max_grad_norm: float = 1.0
    per_device_train_batch_size: int = 32
    num_train_epochs: int = 2
    output_dir: str = "out"
    seed: int = 42


def main():
    model_args, train_args = DataclassArgumentParser((ModelArguments, TrainingArguments)).parse_args_into_dataclasses()
    print(json.dumps({**asdict(model_args), **asdict(train_args)}))
    narf.log(loss=train_args.learning_rate)


if __name__ == "__main__":
    main()
