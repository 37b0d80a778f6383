# The library of the CUDA operators, libgraphmem_cuda.so, and beside it a description in JSON that the loader reads.
# Neither a GPU nor a torch with CUDA is needed to build it.
#
#   GRAPHMEM_CUDA          AUTO: where nvcc is found; ON: an error without it; OFF
#   TORCH_CUDA_ARCH_LIST   (environment or CMake) as torch understands it, such as "8.0;9.0+PTX"

set(GRAPHMEM_CUDA_DEFAULT_ARCHS "8.0;9.0+PTX")
if(NOT DEFINED TORCH_CUDA_ARCH_LIST)
  set(TORCH_CUDA_ARCH_LIST "$ENV{TORCH_CUDA_ARCH_LIST}")
endif()

if(NOT GRAPHMEM_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "GRAPHMEM_CUDA: expected AUTO, ON or OFF, got '${GRAPHMEM_CUDA}'")
endif()
if(GRAPHMEM_CUDA STREQUAL "OFF")
  message(STATUS "graphmem: CUDA operators are left out (GRAPHMEM_CUDA=OFF)")
  return()
endif()

if(UNIX AND NOT APPLE)
  include(CheckLanguage)
  check_language(CUDA)
endif()
if(NOT CMAKE_CUDA_COMPILER)
  if(GRAPHMEM_CUDA STREQUAL "ON")
    message(FATAL_ERROR "GRAPHMEM_CUDA=ON, but no nvcc that works was found (Linux only); set CUDACXX to its path")
  endif()
  message(STATUS "graphmem: no nvcc found, CUDA operators are left out (GRAPHMEM_CUDA=AUTO)")
  return()
endif()

# "8.0;9.0+PTX" becomes 80-real;90-real;90-virtual: what a name gets beside its machine code is PTX only where it says so.
set(archs "${TORCH_CUDA_ARCH_LIST}")
if(archs STREQUAL "")
  set(archs "${GRAPHMEM_CUDA_DEFAULT_ARCHS}")
endif()
string(REPLACE " " ";" archs "${archs}")
set(CMAKE_CUDA_ARCHITECTURES "")
set(GRAPHMEM_CUDA_CODE "")
foreach(arch IN LISTS archs)
  if(NOT arch MATCHES "^([0-9]+)\\.([0-9]+[af]?)(\\+PTX)?$")
    message(FATAL_ERROR "TORCH_CUDA_ARCH_LIST: expected versions such as 8.0;9.0+PTX, got '${arch}'")
  endif()
  set(name "${CMAKE_MATCH_1}${CMAKE_MATCH_2}")
  list(APPEND CMAKE_CUDA_ARCHITECTURES "${name}-real")
  list(APPEND GRAPHMEM_CUDA_CODE "\"sm_${name}\"")
  if(CMAKE_MATCH_3)
    list(APPEND CMAKE_CUDA_ARCHITECTURES "${name}-virtual")
    list(APPEND GRAPHMEM_CUDA_CODE "\"compute_${name}\"")
  endif()
endforeach()
enable_language(CUDA)
string(REPLACE ";" ", " GRAPHMEM_CUDA_CODE "${GRAPHMEM_CUDA_CODE}")
message(STATUS "graphmem: CUDA operators by nvcc ${CMAKE_CUDA_COMPILER_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")

# A torch for the CPU has no libtorch_cuda to link with; the library must name it all the same, or what it takes from
# there stays undefined under a torch with CUDA. An empty library of that name does.
file(WRITE "${CMAKE_CURRENT_BINARY_DIR}/stub/empty.cpp" "")
add_library(graphmem_torch_cuda_stub SHARED "${CMAKE_CURRENT_BINARY_DIR}/stub/empty.cpp")
set_target_properties(graphmem_torch_cuda_stub PROPERTIES OUTPUT_NAME torch_cuda
  LIBRARY_OUTPUT_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/stub")

add_library(graphmem_cuda SHARED ${GRAPHMEM_CUDA_SOURCES})
target_compile_features(graphmem_cuda PRIVATE cuda_std_20)
target_compile_definitions(graphmem_cuda PRIVATE TORCH_STABLE_ONLY TORCH_TARGET_VERSION=0x020a000000000000 USE_CUDA)
target_include_directories(graphmem_cuda PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}")
target_include_directories(graphmem_cuda SYSTEM PRIVATE "${TORCH_DIR}/include")
target_link_directories(graphmem_cuda PRIVATE "${TORCH_DIR}/lib")
target_link_options(graphmem_cuda PRIVATE -Wl,--no-as-needed)
target_link_libraries(graphmem_cuda PRIVATE torch_cpu c10 graphmem_torch_cuda_stub graphmem_glibc)
# No contraction, as on the CPU: sums in the same order then have the same bits.
target_compile_options(graphmem_cuda PRIVATE -fmad=false
  "-Xcompiler=-Wall,-fvisibility=hidden,-fmacro-prefix-map=${CMAKE_CURRENT_SOURCE_DIR}/=,-fmacro-prefix-map=${TORCH_DIR}/include/=")
if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.8)
  target_compile_options(graphmem_cuda PRIVATE --compress-mode=size)
endif()
if(GRAPHMEM_WERROR)
  target_compile_options(graphmem_cuda PRIVATE -Werror=all-warnings)
endif()
# Most of the time goes into torch's headers, which a unit of several files reads once (CMake 3.31 and newer).
set_target_properties(graphmem_cuda PROPERTIES CUDA_RUNTIME_LIBRARY Static UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 6
  INSTALL_RPATH "$ORIGIN/../../torch/lib")

file(CONFIGURE OUTPUT "${CMAKE_CURRENT_BINARY_DIR}/graphmem_cuda.json"
  CONTENT "{\"toolkit\": \"${CMAKE_CUDA_COMPILER_VERSION}\", \"code\": [@GRAPHMEM_CUDA_CODE@]}\n" @ONLY)
install(TARGETS graphmem_cuda LIBRARY DESTINATION graphmem/lib)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/graphmem_cuda.json" DESTINATION graphmem/lib)
