#pragma once

// The result of a launch: empty on success, else a sentence for people.
// Launch code knows nothing of XLA; handlers turn a Status into an FFI error.

#include <string>
#include <string_view>

namespace jaxdirect {

class [[nodiscard]] Status {
 public:
  static Status ok() { return Status(); }

  // Joins strings and integers. Not with a stream: where a toolchain links the C++
  // library into the module, its streams use the locale of the one that is loaded already.
  template <typename... Parts>
  static Status error(const Parts&... parts) {
    Status status;
    (status.append(parts), ...);
    return status;
  }

  bool is_ok() const { return message_.empty(); }
  const std::string& message() const { return message_; }

 private:
  void append(std::string_view text) { message_ += text; }
  void append(long long number) { message_ += std::to_string(number); }

  std::string message_;
};

}  // namespace jaxdirect

#define JAXDIRECT_RETURN_IF_ERROR(expression)               \
  do {                                                      \
    ::jaxdirect::Status jaxdirect_status = (expression);    \
    if (!jaxdirect_status.is_ok()) return jaxdirect_status; \
  } while (false)
