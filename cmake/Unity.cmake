# With COLONNADE_UNITY most sources of a room are compiled as one: gcc pays 3 s
# a source for the templates of the precompiled header. For a wheel, which is
# compiled from the start; a build that goes on after an edit gains nothing.
#
#   colonnade_unity(TARGET FOLDER [ALONE name...])
#
# Names that two sources of a folder have for themselves collide: one of them is
# named after ALONE, without its .cpp, and compiled as ever.
option(COLONNADE_UNITY "Compile several sources at a time" OFF)

function(colonnade_unity target folder)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "" "ALONE")
  if(NOT COLONNADE_UNITY)
    return()
  endif()
  set_target_properties(${target} PROPERTIES
    UNITY_BUILD ON
    UNITY_BUILD_MODE GROUP)
  get_target_property(sources ${target} SOURCES)
  get_target_property(place ${target} SOURCE_DIR)
  set(inside ${PROJECT_SOURCE_DIR}/${folder})
  string(MAKE_C_IDENTIFIER ${folder} label)
  set(number 0)
  foreach(source IN LISTS sources)
    cmake_path(ABSOLUTE_PATH source BASE_DIRECTORY ${place})
    cmake_path(GET source STEM name)
    cmake_path(IS_PREFIX inside ${source} is_inside)
    if(is_inside AND NOT name IN_LIST arg_ALONE)
      math(EXPR group "${number} / 12")  # so that all cores have work
      math(EXPR number "${number} + 1")
      set_source_files_properties(${source} TARGET_DIRECTORY ${target}
        PROPERTIES UNITY_GROUP ${label}_${group})
    endif()
  endforeach()
endfunction()
