# Finds a CUDA compiler as JAXDIRECT_CUDA asks, and sets JAXDIRECT_HAS_CUDA.
set(JAXDIRECT_HAS_CUDA FALSE)
set(JAXDIRECT_CUDA_ARCHITECTURES "" CACHE STRING
    "GPU architectures, as CMAKE_CUDA_ARCHITECTURES takes them")
if(NOT JAXDIRECT_CUDA_ARCHITECTURES)
  set(JAXDIRECT_CUDA_ARCHITECTURES "80-real;90a-real;90-virtual")
endif()

# nvcc of the CUDA 13 wheels. Its own profile looks for libraries in lib64, but the
# wheels have lib; without the flag even CMake's compiler check cannot link.
function(jaxdirect_find_cuda_wheels)
  execute_process(
    COMMAND "${Python_EXECUTABLE}" "${CMAKE_CURRENT_SOURCE_DIR}/cmake/find_cuda_wheels.py"
    OUTPUT_VARIABLE root OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT root)
    message(FATAL_ERROR
            "jaxdirect: JAXDIRECT_CUDA_WHEELS is on but ${Python_EXECUTABLE} has no nvcc wheel; "
            "pip install 'cuda-toolkit[nvcc,crt,nvvm,cudart,cccl]==13.0.*'")
  endif()
  set(CMAKE_CUDA_COMPILER "${root}/bin/nvcc" CACHE FILEPATH "CUDA compiler" FORCE)
  if(NOT "$ENV{CUDAFLAGS}" MATCHES "-L${root}/lib")
    set(ENV{CUDAFLAGS} "$ENV{CUDAFLAGS} -L${root}/lib")
  endif()
endfunction()

if(NOT JAXDIRECT_CUDA STREQUAL "OFF")
  if(JAXDIRECT_CUDA_WHEELS)
    set(JAXDIRECT_CUDA ON)  # who brings a compiler wants it used
    jaxdirect_find_cuda_wheels()
  endif()
  # Before the language is enabled, because CMake takes its default then.
  set(CMAKE_CUDA_ARCHITECTURES "${JAXDIRECT_CUDA_ARCHITECTURES}")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.0)
      message(FATAL_ERROR "jaxdirect: CUDA 12.0 or newer is needed, ${CMAKE_CUDA_COMPILER} is "
                          "${CMAKE_CUDA_COMPILER_VERSION}; set CUDACXX to a newer nvcc, or "
                          "JAXDIRECT_CUDA=OFF for a CPU-only build")
    endif()
    set(CMAKE_CUDA_STANDARD 20)
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake before 3.26
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
    endif()
    set(JAXDIRECT_HAS_CUDA TRUE)
    message(STATUS "jaxdirect: building the CUDA module with ${CMAKE_CUDA_COMPILER} "
                   "${CMAKE_CUDA_COMPILER_VERSION} for ${JAXDIRECT_CUDA_ARCHITECTURES}")
  elseif(JAXDIRECT_CUDA STREQUAL "ON")
    message(FATAL_ERROR "jaxdirect: JAXDIRECT_CUDA=ON but no CUDA compiler was found; "
                        "set CUDACXX to nvcc, JAXDIRECT_CUDA_WHEELS=1 to build with the one from "
                        "the CUDA wheels, or JAXDIRECT_CUDA=OFF for a CPU-only build")
  else()
    message(STATUS "jaxdirect: no CUDA compiler found, building for CPU only")
  endif()
endif()

function(jaxdirect_configure_cuda target)
  target_compile_definitions(${target} PRIVATE JAXDIRECT_CUDA_MODULE)
  # The toolkit's headers for plain C++ files; nvcc brings its own.
  target_include_directories(${target} SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra --expt-relaxed-constexpr>
    $<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${JAXDIRECT_WERROR}>>:-Werror=all-warnings>)
  set_target_properties(${target} PROPERTIES CUDA_RUNTIME_LIBRARY Static)
  # Through the CUDA language only: find_package(CUDAToolkit) fails with the wheels.
  set_target_properties(${target} PROPERTIES LINKER_LANGUAGE CUDA)
endfunction()
