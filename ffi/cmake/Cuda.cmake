# Finds a CUDA compiler as JAXDIRECT_CUDA asks, and sets JAXDIRECT_HAS_CUDA.
set(JAXDIRECT_HAS_CUDA FALSE)
set(JAXDIRECT_CUDA_ARCHITECTURES "80-real;90a-real;90-virtual" CACHE STRING
    "GPU architectures, as CMAKE_CUDA_ARCHITECTURES takes them")

if(NOT JAXDIRECT_CUDA STREQUAL "OFF")
  # Before the language is enabled, because CMake takes its default then.
  set(CMAKE_CUDA_ARCHITECTURES "${JAXDIRECT_CUDA_ARCHITECTURES}")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    set(CMAKE_CUDA_STANDARD 20)
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    set(JAXDIRECT_HAS_CUDA TRUE)
    message(STATUS "jaxdirect: building the CUDA module with ${CMAKE_CUDA_COMPILER} "
                   "for ${JAXDIRECT_CUDA_ARCHITECTURES}")
  elseif(JAXDIRECT_CUDA STREQUAL "ON")
    message(FATAL_ERROR "jaxdirect: JAXDIRECT_CUDA=ON but no CUDA compiler was found; "
                        "set CUDACXX to nvcc, or JAXDIRECT_CUDA=OFF for a CPU-only build")
  else()
    message(STATUS "jaxdirect: no CUDA compiler found, building for CPU only")
  endif()
endif()

function(jaxdirect_configure_cuda target)
  target_compile_definitions(${target} PRIVATE JAXDIRECT_CUDA_MODULE)
  # The toolkit's headers for plain C++ files; nvcc brings its own.
  target_include_directories(${target} SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra --expt-relaxed-constexpr>)
  set_target_properties(${target} PROPERTIES CUDA_RUNTIME_LIBRARY Static)
  # Through the CUDA language only: find_package(CUDAToolkit) fails with the wheels.
  set_target_properties(${target} PROPERTIES LINKER_LANGUAGE CUDA)
endfunction()
