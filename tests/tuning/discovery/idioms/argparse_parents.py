import argparse
def common():
    p = argparse.ArgumentParser(add_help=False)
    g = p.add_argument_group("optimisation")
    g.add_argument("--learning-rate", "-lr", dest="lr", type=float, default=3e-4, help="peak rate (default: %(default)s)")
    g.add_argument("--weight_decay", type=lambda s: float(s), default=0.01)
    g.add_argument("--warmup-ratio", type=float, default=0.1)
    m = p.add_mutually_exclusive_group()
    m.add_argument("--nesterov", action="store_true")
    m.add_argument("--amsgrad", action="store_true")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--output-dir", default="out")
    return p
def main():
    base = common()
    root = argparse.ArgumentParser()
    subs = root.add_subparsers(dest="command", required=True)
    train = subs.add_parser("train", parents=[base])
    train.add_argument("--dropout", type=float, default=0.1)
    train.add_argument("--layers", type=int, default=2)
    train.add_argument("--schedule", choices=("cosine", "linear"), default="cosine")
    train.add_argument("--amp", action=argparse.BooleanOptionalAction, default=True)
    evaluate = subs.add_parser("evaluate", parents=[base])
    evaluate.add_argument("--threshold", type=float, default=0.5)
    a = root.parse_args()
    if a.command == "train":
        import narf
        narf.log(val_loss=a.lr)
main()
