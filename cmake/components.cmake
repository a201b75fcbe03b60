# SPDX-FileCopyrightText: The dpopt authors
# SPDX-License-Identifier: Apache-2.0
#
# A component is an INTERFACE target dpopt::<name> with its own list of headers and its own export file, so that
# find_package(dpopt COMPONENTS core) never looks for the packages of another one.
include_guard(GLOBAL)

# dpopt_requirement(<option> <out>): QUIET for AUTO, REQUIRED for ON.
function(dpopt_requirement option out)
  if(NOT "${${option}}" MATCHES "^(AUTO|ON|OFF|TRUE|FALSE|1|0)$")
    message(FATAL_ERROR "${option} is '${${option}}': use AUTO, ON or OFF")
  endif()
  if("${${option}}" STREQUAL "AUTO")
    set(${out} QUIET PARENT_SCOPE)
  else()
    set(${out} REQUIRED PARENT_SCOPE)
  endif()
endfunction()

# dpopt_add_component(<name> <targets it needs...>)
function(dpopt_add_component name)
  set(target dpopt_${name})
  add_library(${target} INTERFACE)
  add_library(dpopt::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  target_link_libraries(${target} INTERFACE ${ARGN})
  set(headers ${dpopt_${name}_headers})
  list(TRANSFORM headers PREPEND "${PROJECT_SOURCE_DIR}/include/")
  target_sources(${target} INTERFACE FILE_SET HEADERS BASE_DIRS "${PROJECT_SOURCE_DIR}/include" FILES ${headers})
  set_property(GLOBAL APPEND PROPERTY DPOPT_COMPONENTS ${name})
endfunction()

# Installs every component that was added, and the package that finds them again.
function(dpopt_install_package)
  include(CMakePackageConfigHelpers)
  get_property(components GLOBAL PROPERTY DPOPT_COMPONENTS)
  set(to "${CMAKE_INSTALL_LIBDIR}/cmake/dpopt")
  foreach(name IN LISTS components)
    install(TARGETS dpopt_${name} EXPORT dpopt-${name} FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
    install(EXPORT dpopt-${name} NAMESPACE dpopt:: DESTINATION "${to}")
  endforeach()
  configure_package_config_file(
    "${PROJECT_SOURCE_DIR}/cmake/dpoptConfig.cmake.in" "${PROJECT_BINARY_DIR}/dpoptConfig.cmake"
    INSTALL_DESTINATION "${to}" NO_SET_AND_CHECK_MACRO)
  write_basic_package_version_file("${PROJECT_BINARY_DIR}/dpoptConfigVersion.cmake" COMPATIBILITY SameMinorVersion
                                   ARCH_INDEPENDENT)
  install(FILES "${PROJECT_BINARY_DIR}/dpoptConfig.cmake" "${PROJECT_BINARY_DIR}/dpoptConfigVersion.cmake"
                "${PROJECT_SOURCE_DIR}/cmake/cblas.cmake" DESTINATION "${to}")
  install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DOCDIR}")
endfunction()
