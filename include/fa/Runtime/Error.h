//===- Error.h - Failures that carry a status code --------------*- C++ -*-===//

#ifndef FA_RUNTIME_ERROR_H
#define FA_RUNTIME_ERROR_H

#include "fa-c/fa.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/FormatVariadic.h"
#include <string>

namespace mlir::fa {

/// The one kind of llvm::Error that the runtime makes: what the C API returns.
class Failure : public llvm::ErrorInfo<Failure> {
public:
  static char ID;
  Failure(fa_status status, std::string message)
      : status(status), message(std::move(message)) {}

  fa_status getStatus() const { return status; }
  const std::string &getMessage() const { return message; }
  void log(llvm::raw_ostream &os) const override { os << message; }
  std::error_code convertToErrorCode() const override {
    return llvm::inconvertibleErrorCode();
  }

private:
  fa_status status;
  std::string message;
};

/// A failure with a message in the syntax of llvm::formatv.
template <typename... Ts>
llvm::Error fail(fa_status status, const char *format, Ts &&...values) {
  return llvm::make_error<Failure>(
      status, llvm::formatv(format, std::forward<Ts>(values)...).str());
}
inline llvm::Error fail(fa_status status, std::string message) {
  return llvm::make_error<Failure>(status, std::move(message));
}

} // namespace mlir::fa

#endif // FA_RUNTIME_ERROR_H
