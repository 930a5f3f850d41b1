import os

import torch.distributed as dist

from tensor_parallel import ON_PROCESSES


def pytest_sessionstart(session):
    if ON_PROCESSES:
        dist.init_process_group(os.environ["TEST_BACKEND"])


def pytest_sessionfinish(session):
    if ON_PROCESSES:
        dist.destroy_process_group()
