from enum import Enum
from typing import Annotated, Optional
import typer
class Activation(str, Enum):
    relu = "relu"
    gelu = "gelu"
    silu = "silu"
app = typer.Typer()
Rate = Annotated[float, typer.Option("--lr", help="Learning rate", min=1e-6, max=1.0)]
@app.command()
def train(
    learning_rate: Rate = 1e-3,
    activation: Annotated[Activation, typer.Option(case_sensitive=False)] = Activation.relu,
    dropout: Annotated[float, typer.Option(min=0.0, max=0.9)] = 0.1,
    width: int = typer.Option(128, "--width", "-w"),
    use_bias: bool = True,
    epochs: int = 2,
    resume: Optional[str] = None,
):
    import narf
    narf.log(val_accuracy=learning_rate)
if __name__ == "__main__":
    app()
