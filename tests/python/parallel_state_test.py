import pytest

import colonnade
from colonnade import parallel_state as ps

GETTERS = [
    "get_data_parallel_group",
    "get_data_parallel_rank",
    "get_data_parallel_size",
    "get_data_parallel_src_rank",
    "get_tensor_model_parallel_group",
    "get_tensor_model_parallel_rank",
    "get_tensor_model_parallel_size",
    "get_tensor_model_parallel_src_rank",
    "get_world_group",
]


@pytest.fixture
def alone():
    """A thread that is no rank, whose parallel state ends with the test."""
    yield
    ps.destroy_model_parallel()


@pytest.mark.parametrize("world, tp", [(1, 1), (2, 1), (2, 2), (4, 2), (6, 3)])
def test_every_getter(world, tp):
    def body(rank):
        ps.initialize_model_parallel(tensor_model_parallel_size=tp)
        assert ps.model_parallel_is_initialized()
        assert ps.get_tensor_model_parallel_size() == tp
        assert ps.get_data_parallel_size() == world // tp
        assert ps.get_tensor_model_parallel_rank() == rank % tp
        assert ps.get_data_parallel_rank() == rank // tp
        assert ps.get_tensor_model_parallel_src_rank() == rank - rank % tp
        assert ps.get_data_parallel_src_rank() == rank % tp
        tensor = ps.get_tensor_model_parallel_group()
        data = ps.get_data_parallel_group()
        assert (tensor.rank(), tensor.size()) == (rank % tp, tp)
        assert (data.rank(), data.size()) == (rank // tp, world // tp)
        assert ps.get_world_group().ranks == list(range(world))
        assert tensor.ranks in ps.get_tensor_model_parallel_group(as_list=True)
        assert data.ranks in ps.get_data_parallel_group(as_list=True)
        return (ps.get_tensor_model_parallel_group(as_list=True),
                ps.get_data_parallel_group(as_list=True))

    lists = ([list(range(i, i + tp)) for i in range(0, world, tp)],
             [list(range(i, world, tp)) for i in range(tp)])
    assert colonnade.run_ranks(world, body) == [lists] * world


@pytest.mark.parametrize("getter", GETTERS)
def test_before_initialize_is_an_error(getter):
    with pytest.raises(colonnade.InvalidArgument,
                       match=getter + ": .*call initialize_model_parallel"):
        getattr(ps, getter)()


def test_the_world_outside_a_rank_is_this_thread(alone):
    ps.initialize_model_parallel()
    assert ps.get_tensor_model_parallel_size() == 1
    assert ps.get_data_parallel_rank() == 0


def test_size_that_does_not_divide():
    with pytest.raises(colonnade.InvalidArgument) as caught:
        colonnade.run_ranks(4, lambda: ps.initialize_model_parallel(3))
    assert "3" in str(caught.value) and "4" in str(caught.value)


def test_more_than_the_world_says_how_to_start_ranks():
    with pytest.raises(colonnade.InvalidArgument, match="run_ranks"):
        ps.initialize_model_parallel(2)


def test_a_second_call_is_an_error(alone):
    ps.initialize_model_parallel()
    with pytest.raises(colonnade.InvalidArgument, match="already|second"):
        ps.initialize_model_parallel()
    ps.destroy_model_parallel()
    assert not ps.model_parallel_is_initialized()
    ps.initialize_model_parallel()


def test_a_group_of_ones_own():
    def body(rank):
        ps.initialize_model_parallel(2)
        group = ps.new_group("outer", [0, 3])
        if rank in (0, 3):
            assert (group.name, group.ranks) == ("outer", [0, 3])
            group.barrier()
        else:
            assert group is None

    colonnade.run_ranks(4, body)
