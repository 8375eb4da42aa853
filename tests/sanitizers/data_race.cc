#include <thread>

// Two threads write one variable, with nothing that orders them. ThreadSanitizer must say so.
int main() {
  volatile int shared = 0;
  std::thread other([&shared] { shared = 1; });
  shared = 2;
  other.join();
  return 0;
}
