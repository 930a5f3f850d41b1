// python/bindings/parallel_state.cpp
#include "colonnade/parallel_state/parallel_state.h"

#include "bindings.h"
#include "colonnade/comm/rank_context.h"

namespace colonnade::python {

void bind_parallel_state(pybind11::module_& m) {
  namespace ps = parallel_state;
  m.def("initialize_model_parallel", &ps::initialize_model_parallel,
        ReleaseGil());
  m.def("model_parallel_is_initialized", &ps::model_parallel_is_initialized);
  m.def("destroy_model_parallel", &ps::destroy_model_parallel, ReleaseGil());
  m.def("get_data_parallel_size", &ps::get_data_parallel_size);
  m.def("get_data_parallel_rank", &ps::get_data_parallel_rank);
  m.def("get_tensor_model_parallel_size", &ps::get_tensor_model_parallel_size);
  m.def("get_tensor_model_parallel_rank", &ps::get_tensor_model_parallel_rank);
  m.def("get_data_parallel_group", &ps::get_data_parallel_group);
  m.def("get_tensor_model_parallel_group",
        &ps::get_tensor_model_parallel_group);
  m.def("get_world_group", &ps::get_world_group);
  m.def("new_group", &ps::new_group, ReleaseGil());
  m.def("get_data_parallel_group_as_list",
        &ps::get_data_parallel_group_as_list);
  m.def("get_tensor_model_parallel_group_as_list",
        &ps::get_tensor_model_parallel_group_as_list);
  m.def("get_tensor_model_parallel_src_rank",
        &ps::get_tensor_model_parallel_src_rank);
  m.def("get_data_parallel_src_rank", &ps::get_data_parallel_src_rank);
  m.def("find_group", [](const std::string& name) {
    return RankContext::current()->group(name);
  });
}

}  // namespace colonnade::python
