# Installs Heddle beside its build, builds and runs the outside project in this folder with it, and trains
# with the installed program.  Given: heddle_build, compiler, generator.
cmake_minimum_required(VERSION 3.25)

set(prefix ${heddle_build}/package/prefix)
file(REMOVE_RECURSE ${heddle_build}/package)

function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

run(${CMAKE_COMMAND} --install ${heddle_build} --prefix ${prefix})

foreach(component IN ITEMS core train)
  set(build ${heddle_build}/package/${component})
  if(component STREQUAL core)
    set(options -D CMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON)  # core is found where Eigen is not
  else()
    set(options)
  endif()
  run(${CMAKE_COMMAND} --no-warn-unused-cli -S ${CMAKE_CURRENT_LIST_DIR} -B ${build}
      -G ${generator} -D CMAKE_CXX_COMPILER=${compiler} -D CMAKE_PREFIX_PATH=${prefix} -D component=${component} ${options})
  run(${CMAKE_COMMAND} --build ${build})
  run(${build}/outside)
endforeach()

# The installed program reads the installed data: it trains, and refuses once that file is damaged.
unset(ENV{HEDDLE_DATA_DIR})
set(train ${prefix}/bin/heddle train --workers 1 --epochs 1)
run(${train})
file(WRITE ${prefix}/share/heddle/digits.bin "damaged")
execute_process(COMMAND ${train} RESULT_VARIABLE code ERROR_VARIABLE complaint)
if(NOT code EQUAL 2)
  message(FATAL_ERROR "heddle train ended with ${code} on damaged data, not with 2: ${complaint}")
endif()
