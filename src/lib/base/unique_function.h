#pragma once

#include <memory>
#include <type_traits>
#include <utility>

namespace berth {

template <typename Signature>
class UniqueFunction;

/// A callable that is moved, not copied (std::move_only_function is C++23), so that it can own what it works on: a
/// reply that must be given exactly once, a descriptor, a lease.
template <typename Return, typename... Args>
class UniqueFunction<Return(Args...)> {
 public:
  UniqueFunction() noexcept = default;
  template <typename F>
  requires(!std::is_same_v<std::decay_t<F>, UniqueFunction> && std::is_invocable_r_v<Return, F&, Args...>)
      UniqueFunction(F&& function)  // NOLINT(google-explicit-constructor): as std::function
      : callable_(std::make_unique<Holder<std::decay_t<F>>>(std::forward<F>(function))) {}

  [[nodiscard]] explicit operator bool() const noexcept { return callable_ != nullptr; }
  Return operator()(Args... args) { return callable_->call(std::forward<Args>(args)...); }

 private:
  struct Callable {
    virtual ~Callable() = default;
    virtual Return call(Args... args) = 0;
  };
  template <typename F>
  struct Holder final : Callable {
    explicit Holder(F&& f) : function(std::move(f)) {}
    explicit Holder(const F& f) : function(f) {}
    Return call(Args... args) override { return function(std::forward<Args>(args)...); }
    F function;
  };
  std::unique_ptr<Callable> callable_;
};

/// Work to be done once, somewhere else.
using Task = UniqueFunction<void()>;

}  // namespace berth
