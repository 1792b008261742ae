"""Which of the processes of a distributed training this is."""

from __future__ import annotations

import os


def process_rank() -> int:
    """Return the rank of this process among those that train together, 0 where it trains alone."""
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return int(os.environ.get("RANK", 0))  # set by torchrun
