# What all of our own targets share: language, warnings, visibility, and the
# precompiled header.
#
#   colonnade_target(NAME)
#
# The target `colonnade` compiles the precompiled header; every target after it
# uses the same file, so their flags must be equal: one -fPIC for libraries and
# programs alike, and no options of their own that change code. A source that
# needs its own flags sets SKIP_PRECOMPILE_HEADERS.

set(COLONNADE_WARNINGS
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual
  -Wcast-qual -Wimplicit-fallthrough -Wundef)

# Not torch/torch.h: gcc instantiates a precompiled header's templates again in
# every source, 7 s for torch/torch.h, 3 s for these, 0.4 s for Tensor.h alone.
set(COLONNADE_PRECOMPILED
  <ATen/ATen.h>
  <torch/csrc/autograd/custom_function.h>
  <torch/library.h>
  <torch/nn/cloneable.h>
  <torch/nn/module.h>
  <torch/nn/pimpl.h>
  <torch/types.h>)

function(colonnade_target target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_compile_options(${target} PRIVATE -fPIC ${COLONNADE_WARNINGS})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # ccache takes a source with a precompiled header only with this.
    target_compile_options(${target} PRIVATE -fpch-preprocess)
  else()
    # Clang's own intrinsics are macros with C99 extensions; and a loop that it
    # cannot vectorize under a sanitizer is no mistake.
    target_compile_options(${target} PRIVATE
      -Wno-c99-extensions -Wno-pass-failed)
  endif()
  set_target_properties(${target} PROPERTIES
    COMPILE_WARNING_AS_ERROR ${PROJECT_IS_TOP_LEVEL}
    CXX_EXTENSIONS OFF
    CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON
    POSITION_INDEPENDENT_CODE OFF
    DEFINE_SYMBOL "")
  if(target STREQUAL "colonnade")
    target_link_libraries(${target} PUBLIC TorchWheel::cpu)
    target_precompile_headers(${target} PRIVATE ${COLONNADE_PRECOMPILED})
  else()
    target_link_libraries(${target} PUBLIC colonnade::colonnade)
    target_precompile_headers(${target} REUSE_FROM colonnade)
  endif()
endfunction()
