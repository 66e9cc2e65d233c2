"""DataLoader workers, forked and spawned."""

import torch
from torch.utils.data import DataLoader, Dataset


class Squares(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, i):
        return torch.tensor(float(i * i))


if __name__ == "__main__":
    torch.manual_seed(3)
    for context in ("fork", "spawn"):
        loader = DataLoader(Squares(), batch_size=8, shuffle=True, num_workers=2, multiprocessing_context=context)
        batches = [batch for _ in range(2) for batch in loader]
        print(context, len(batches), sum(b.sum().item() for b in batches), batches[0].tolist())
