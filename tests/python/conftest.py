import os

import pytest
import torch.distributed as dist

from tensor_parallel import ON_PROCESSES


def pytest_sessionstart(session):
    if ON_PROCESSES:
        dist.init_process_group(os.environ["TEST_BACKEND"])


def pytest_sessionfinish(session):
    if ON_PROCESSES:
        dist.destroy_process_group()


@pytest.fixture
def tmp_path(tmp_path):
    """One folder for all processes."""
    if not ON_PROCESSES:
        return tmp_path
    paths = [tmp_path]
    dist.broadcast_object_list(paths)
    return paths[0]
