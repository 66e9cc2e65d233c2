import click
OPTIMISERS = ["adam", "sgd", "rmsprop"]
def shared(f):
    f = click.option("--lr", default=1e-3, show_default=True)(f)
    f = click.option("--weight-decay", "weight_decay", type=click.FloatRange(0, 1), default=1e-4)(f)
    return f
@click.group()
@click.option("--verbose/--quiet", default=False)
def cli(verbose): ...
@cli.group()
def model(): ...
@model.command("train")
@shared
@click.option("--optimizer", type=click.Choice(OPTIMISERS), default="adam")
@click.option("--hidden", type=int, default=64)
@click.option("--augment/--no-augment", default=True)
@click.option("--seed", default=1)
def train_model(lr, weight_decay, optimizer, hidden, augment, seed):
    import narf
    narf.log(accuracy=lr)
@model.command()
@click.argument("path")
def export(path): ...
if __name__ == "__main__":
    cli()
