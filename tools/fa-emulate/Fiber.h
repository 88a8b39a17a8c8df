//===- Fiber.h - Stacks that take turns -------------------------*- C++ -*-===//

#ifndef FA_EMULATE_FIBER_H
#define FA_EMULATE_FIBER_H

#include <cstddef>

namespace fa::emulate {

/// A saved point of execution: where its stack ends.
using Fiber = void *;

/// Saves the running code in `from` and goes on with `to`.
extern "C" void fa_emulate_switch(Fiber *from, Fiber to);

/// Stacks for fibers, each with a page below that must not be touched.
class Stacks {
public:
  static constexpr size_t kSize = size_t(1) << 20;

  Stacks() = default;
  Stacks(const Stacks &) = delete;
  ~Stacks();

  /// Makes at least `count` stacks; false when there is no memory.
  bool reserve(size_t count);
  /// A fiber that begins with `entry(argument)` on stack `index`; `entry` must
  /// not return.
  Fiber start(size_t index, void (*entry)(void *), void *argument);

private:
  char *memory = nullptr;
  size_t count = 0;
};

} // namespace fa::emulate

#endif // FA_EMULATE_FIBER_H
