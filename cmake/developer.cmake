# SPDX-FileCopyrightText: The dpopt authors
# SPDX-License-Identifier: Apache-2.0
#
# dpopt_developer_target(<target>): warnings and sanitizers for our own tests, benchmarks and examples. PRIVATE, and
# the only place that sets flags: nothing of it reaches a consumer.
include_guard(GLOBAL)

set(DPOPT_WARNINGS -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 sees overflows in std::string's own code where there are none; AddressSanitizer sees the real ones.
  list(APPEND DPOPT_WARNINGS -Wno-stringop-overflow -Wno-restrict)
endif()
if(DPOPT_SANITIZE STREQUAL "address")
  set(DPOPT_SANITIZE_FLAGS -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
elseif(DPOPT_SANITIZE STREQUAL "thread")
  set(DPOPT_SANITIZE_FLAGS -fsanitize=thread)
elseif(DPOPT_SANITIZE)
  message(FATAL_ERROR "DPOPT_SANITIZE is '${DPOPT_SANITIZE}': use address, thread or leave it empty")
endif()
if(DPOPT_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # Instrumented code makes g++ warn about its own additions; its plain build judges warnings.
  list(REMOVE_ITEM DPOPT_WARNINGS -Werror)
endif()

function(dpopt_developer_target target)
  target_compile_options(${target} PRIVATE ${DPOPT_WARNINGS} ${DPOPT_SANITIZE_FLAGS})
  target_link_options(${target} PRIVATE ${DPOPT_SANITIZE_FLAGS})
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF)
endfunction()
