# The XLA FFI headers come with jaxlib. They are header-only and stable from the
# version that builds to every newer one that runs.
if(NOT XLA_FFI_INCLUDE_DIR)
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c
      "import importlib.util, pathlib; print(pathlib.Path(importlib.util.find_spec('jaxlib').origin).parent / 'include')"
    OUTPUT_VARIABLE XLA_FFI_INCLUDE_DIR OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "jaxdirect: jaxlib was not found by ${Python_EXECUTABLE}; "
                        "install it, or pass -DXLA_FFI_INCLUDE_DIR=<folder that holds xla/ffi/api/ffi.h>")
  endif()
endif()
if(NOT EXISTS "${XLA_FFI_INCLUDE_DIR}/xla/ffi/api/ffi.h")
  message(FATAL_ERROR "jaxdirect: ${XLA_FFI_INCLUDE_DIR} holds no xla/ffi/api/ffi.h")
endif()
