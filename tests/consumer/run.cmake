# SPDX-FileCopyrightText: The dpopt authors
# SPDX-License-Identifier: Apache-2.0
#
# cmake -DCONSUMER=<folder> -DSOURCE=<dpopt> -DBUILD=<its build> -DCXX=<compiler> -P run.cmake
# Configures, builds and runs a project outside the tree that uses dpopt in the way the folder is named after.
set(work "${BUILD}/consumer/${CONSUMER}")
set(project "${SOURCE}/tests/consumer/${CONSUMER}")
file(REMOVE_RECURSE "${work}")
file(MAKE_DIRECTORY "${work}")

function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

if(CONSUMER STREQUAL "meson")
  # Meson wants its subprojects inside the project: a copy of the consumer, with a link to this tree.
  file(COPY "${project}/" "${SOURCE}/tests/consumer/core.cpp" DESTINATION "${work}/project")
  file(MAKE_DIRECTORY "${work}/project/subprojects")
  file(CREATE_LINK "${SOURCE}" "${work}/project/subprojects/dpopt" SYMBOLIC)
  set(ENV{CXX} "${CXX}")
  run("${MESON}" setup "${work}/build" "${work}/project")
  run("${MESON}" compile -C "${work}/build")
  run("${work}/build/consumer")
  return()
endif()

set(options -G "${GENERATOR}" "-DCMAKE_CXX_COMPILER=${CXX}")
if(CONSUMER STREQUAL "find_package")
  run("${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${work}/prefix")
  list(APPEND options "-DCMAKE_PREFIX_PATH=${work}/prefix")
else()
  list(APPEND options "-DDPOPT_SOURCE=${SOURCE}")
endif()
run("${CMAKE_COMMAND}" -S "${project}" -B "${work}/build" ${options})
run("${CMAKE_COMMAND}" --build "${work}/build")
run("${work}/build/consumer_core")
run("${work}/build/consumer_dpopt")
if(CONSUMER STREQUAL "find_package")
  # The core alone must not look for any package: forbid them all.
  run("${CMAKE_COMMAND}" -S "${project}" -B "${work}/core" ${options} -DCORE_ONLY=ON
      -DCMAKE_DISABLE_FIND_PACKAGE_PkgConfig=ON -DCMAKE_DISABLE_FIND_PACKAGE_MPI=ON
      -DCMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON -DCMAKE_DISABLE_FIND_PACKAGE_BLAS=ON)
  run("${CMAKE_COMMAND}" --build "${work}/core")
  run("${work}/core/consumer_core")
endif()
