# The peers whose ranks are programs of their own (bench/peers/launched.hpp): each is built when it is
# there, and the benchmark leaves it out with a word when it is not.

function(heddle_bench_peer name source)
  add_executable(${name} ${source} bench/clock.cpp bench/team.cpp)
  target_include_directories(${name} PRIVATE bench)
  target_link_libraries(${name} PRIVATE heddle::core fmt::fmt)
  add_dependencies(heddle_bench ${name})
endfunction()

# An MPI's flags are those that its compiler says; there may be several of them on a machine, and CMake's
# own FindMPI finds one.
function(heddle_bench_mpi name compiler how)
  find_program(${name}_COMPILER ${compiler})
  if(NOT ${name}_COMPILER)
    return()
  endif()
  execute_process(COMMAND ${${name}_COMPILER} ${how} OUTPUT_VARIABLE line COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(words UNIX_COMMAND "${line}")
  list(POP_FRONT words)  # the compiler that it calls
  heddle_bench_peer(${name} bench/peers/mpi_member.cpp)
  foreach(word IN LISTS words)
    if(word MATCHES "^-I(.*)")
      target_include_directories(${name} SYSTEM PRIVATE ${CMAKE_MATCH_1})
    elseif(word MATCHES "^-[lL]")
      target_link_libraries(${name} PRIVATE ${word})
    endif()
  endforeach()
endfunction()

heddle_bench_mpi(heddle_bench_openmpi mpicxx.openmpi --showme)
heddle_bench_mpi(heddle_bench_mpich mpicxx.mpich -show)

find_library(GLOO_LIBRARY gloo)
find_path(GLOO_INCLUDE_DIR gloo/allreduce.h)
if(GLOO_LIBRARY AND GLOO_INCLUDE_DIR)
  heddle_bench_peer(heddle_bench_gloo bench/peers/gloo_member.cpp)
  target_include_directories(heddle_bench_gloo SYSTEM PRIVATE ${GLOO_INCLUDE_DIR})
  target_link_libraries(heddle_bench_gloo PRIVATE ${GLOO_LIBRARY})
endif()
