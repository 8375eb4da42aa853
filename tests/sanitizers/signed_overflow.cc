#include <limits>

// Adds beyond the largest int. UndefinedBehaviorSanitizer must say so, and -fno-sanitize-recover must make that fatal.
int main(int argc, char**) {
  const volatile int sum = std::numeric_limits<int>::max() + argc;
  return sum == 0 ? 1 : 0;
}
