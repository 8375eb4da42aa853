#include <memory>

// Reads freed memory. AddressSanitizer must say so.
int main() {
  auto owner = std::make_unique<int>(1);
  const volatile int* const dangling = owner.get();
  owner.reset();
  return *dangling == 1 ? 0 : 0;
}
