//===- Fiber.cpp - Stacks that take turns ---------------------------------===//

#include "Fiber.h"
#include <cstdint>
#include <sys/mman.h>

using namespace fa::emulate;

#ifndef __x86_64__
#error "the emulator switches stacks on x86-64 only"
#endif

// The registers that a call preserves; swapcontext would also save the signal
// mask, with a system call each time.
asm(R"(
.text
.globl fa_emulate_switch
.type fa_emulate_switch, @function
fa_emulate_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  retq
.size fa_emulate_switch, . - fa_emulate_switch

.type fa_emulate_enter, @function
fa_emulate_enter:
  movq %r13, %rdi
  callq *%r12
  ud2
.size fa_emulate_enter, . - fa_emulate_enter
)");

extern "C" void fa_emulate_enter();

Stacks::~Stacks() {
  if (memory)
    munmap(memory, count * kSize);
}

bool Stacks::reserve(size_t wanted) {
  if (wanted <= count)
    return true;
  if (memory)
    munmap(memory, count * kSize);
  count = 0;
  void *pages = mmap(nullptr, wanted * kSize, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  memory = pages == MAP_FAILED ? nullptr : static_cast<char *>(pages);
  if (!memory)
    return false;
  count = wanted;
  for (size_t i = 0; i < count; ++i)
    mprotect(memory + i * kSize, 4096, PROT_NONE);
  return true;
}

Fiber Stacks::start(size_t index, void (*entry)(void *), void *argument) {
  uint64_t *top = reinterpret_cast<uint64_t *>(memory + (index + 1) * kSize);
  // As fa_emulate_switch leaves a stack: r15, r14, r13, r12, rbx, rbp and the
  // return address; enter is left with an aligned stack.
  *--top = 0;
  *--top = 0;
  *--top = reinterpret_cast<uint64_t>(&fa_emulate_enter);
  *--top = 0;
  *--top = 0;
  *--top = reinterpret_cast<uint64_t>(entry);
  *--top = reinterpret_cast<uint64_t>(argument);
  *--top = 0;
  *--top = 0;
  return top;
}
