#pragma once

// The result of a launch: empty on success, else a sentence for people.
// Launch code knows nothing of XLA; handlers turn a Status into an FFI error.

#include <sstream>
#include <string>
#include <utility>

namespace jaxdirect {

class [[nodiscard]] Status {
 public:
  static Status ok() { return Status(); }

  template <typename... Parts>
  static Status error(const Parts&... parts) {
    std::ostringstream text;
    (text << ... << parts);
    Status status;
    status.message_ = text.str();
    if (status.message_.empty()) status.message_ = "unknown error";
    return status;
  }

  bool is_ok() const { return message_.empty(); }
  const std::string& message() const { return message_; }

 private:
  std::string message_;
};

}  // namespace jaxdirect

#define JAXDIRECT_RETURN_IF_ERROR(expression)                       \
  do {                                                              \
    ::jaxdirect::Status jaxdirect_status = (expression);            \
    if (!jaxdirect_status.is_ok()) return jaxdirect_status;         \
  } while (false)
