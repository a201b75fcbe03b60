# SPDX-FileCopyrightText: The dpopt authors
# SPDX-License-Identifier: Apache-2.0
#
# dpopt_found::cblas: a BLAS with the C interface and its cblas.h, when there is one. OpenBLAS where pkg-config knows it,
# unless BLA_VENDOR asks for another one; else what CMake's FindBLAS finds. Included by the build of dpopt and, from the
# installed package, by programs that ask for the component blas.
if(NOT TARGET dpopt_found::cblas)
  set(_dpopt_cblas_include "")
  set(_dpopt_cblas_libraries "")
  if(NOT BLA_VENDOR)
    find_package(PkgConfig QUIET)
    if(PKG_CONFIG_FOUND)
      pkg_check_modules(dpopt_openblas QUIET openblas)
    endif()
  endif()
  if(dpopt_openblas_FOUND)
    set(_dpopt_cblas_include ${dpopt_openblas_INCLUDE_DIRS})
    set(_dpopt_cblas_libraries ${dpopt_openblas_LINK_LIBRARIES})
  else()
    find_package(BLAS QUIET)
    find_path(DPOPT_CBLAS_INCLUDE cblas.h DOC "Folder of cblas.h")
    mark_as_advanced(DPOPT_CBLAS_INCLUDE)
    if(BLAS_FOUND AND DPOPT_CBLAS_INCLUDE)
      set(_dpopt_cblas_libraries ${BLAS_LIBRARIES} ${BLAS_LINKER_FLAGS})
      if(NOT DPOPT_CBLAS_INCLUDE IN_LIST CMAKE_CXX_IMPLICIT_INCLUDE_DIRECTORIES)
        set(_dpopt_cblas_include "${DPOPT_CBLAS_INCLUDE}")
      endif()
    endif()
  endif()
  if(_dpopt_cblas_libraries)
    # Some libraries named BLAS have the Fortran interface only.
    include(CheckCXXSourceCompiles)
    set(CMAKE_REQUIRED_INCLUDES ${_dpopt_cblas_include})
    set(CMAKE_REQUIRED_LIBRARIES ${_dpopt_cblas_libraries})
    set(CMAKE_REQUIRED_QUIET ON)
    check_cxx_source_compiles("#include <cblas.h>
      int main() { float x = 0; cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, 1, 1, 1, 1, &x, 1, &x, 1, 1, &x, 1); }"
      DPOPT_CBLAS_LINKS)
    unset(CMAKE_REQUIRED_INCLUDES)
    unset(CMAKE_REQUIRED_LIBRARIES)
    unset(CMAKE_REQUIRED_QUIET)
    if(DPOPT_CBLAS_LINKS)
      add_library(dpopt_found::cblas INTERFACE IMPORTED GLOBAL)
      set_target_properties(dpopt_found::cblas PROPERTIES
        INTERFACE_INCLUDE_DIRECTORIES "${_dpopt_cblas_include}"
        INTERFACE_LINK_LIBRARIES "${_dpopt_cblas_libraries}")
    endif()
  endif()
endif()
