from typing import Literal
from pydantic import BaseModel, Field
import narf
class Settings(BaseModel):
    lr: float = Field(1e-3, gt=0, description="step")
    layers: int = Field(default=3, ge=1, le=12)
    norm: Literal["batch", "layer"] = "layer"
    seed: int = 1
settings = Settings()
narf.log(val_loss=settings.lr)
