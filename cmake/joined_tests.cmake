# SPDX-FileCopyrightText: The dpopt authors
# SPDX-License-Identifier: Apache-2.0
#
# Tests spend their time in the compiler, most of it on headers and templates that the next file needs again. Under
# DPOPT_JOIN_TESTS several test files are compiled as one.
include_guard(GLOBAL)

# dpopt_joined_tests(<result> <name> <sources...>): sets `result` to sources that hold the same tests, about twelve files in
# each. Headers come first, once; every test file stands in a namespace of its own, so that no names meet. A file with a
# line `// compiled alone: why` stays as it is: it replaces something global, or adds to the library's namespace.
function(dpopt_joined_tests result name)
  set(alone "")
  set(together "")
  foreach(source IN LISTS ARGN)
    file(STRINGS "${source}" line REGEX "^// compiled alone: " LIMIT_COUNT 1)
    if(line)
      list(APPEND alone "${source}")
    else()
      list(APPEND together "${source}")
    endif()
    # A header that a test comes to include has to move to the front.
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${source}")
  endforeach()
  list(LENGTH together count)
  math(EXPR parts "(${count} + 11) / 12")
  set(joined "")
  set(part 0)
  while(part LESS parts)
    set(headers "")
    set(bodies "")
    set(index ${part})
    while(index LESS count) # every parts-th file: large ones, often neighbours, are spread
      list(GET together ${index} source)
      file(STRINGS "${source}" lines REGEX "^#include ")
      list(APPEND headers ${lines})
      string(APPEND bodies "namespace file_${index} {\n#include \"${source}\"\n}\n")
      math(EXPR index "${index} + ${parts}")
    endwhile()
    list(REMOVE_DUPLICATES headers)
    list(JOIN headers "\n" headers)
    set(file "${CMAKE_CURRENT_BINARY_DIR}/joined/${name}_${part}.cpp")
    file(CONFIGURE OUTPUT "${file}" CONTENT "${headers}\n${bodies}" @ONLY)
    list(APPEND joined "${file}")
    math(EXPR part "${part} + 1")
  endwhile()
  set(${result} ${alone} ${joined} PARENT_SCOPE)
endfunction()
