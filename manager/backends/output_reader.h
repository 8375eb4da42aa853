#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <thread>

#include "manager/model/backend.h"
#include "src/lib/base/unique_fd.h"

namespace berth::manager {

/// Reads on a thread of its own what programs write into a pipe, until the last of them has closed it. A program would
/// block once the pipe is full, and die of SIGPIPE where no process reads.
class OutputReader final : public LeftOutput {
 public:
  /// `pipe`: a non-blocking reading end; empty: no program can write any more, and there is nothing to read. `said`: as
  /// in Attempt. Null: nothing is to be read, or there is no thread to be had.
  static std::unique_ptr<OutputReader> make(UniqueFd pipe, std::function<void(std::string_view)> said);
  /// One that reads nothing before begin(): until then a program that writes more than the pipe holds waits. Null:
  /// `pipe` is empty, or there are no descriptors left.
  static std::unique_ptr<OutputReader> hold(UniqueFd pipe);
  /// Once. False: there is no thread to be had.
  bool begin(std::function<void(std::string_view)> said);
  ~OutputReader() override;

  [[nodiscard]] int descriptor() const noexcept override { return pipe_.get(); }

 private:
  OutputReader(UniqueFd pipe, UniqueFd stop) noexcept : pipe_(std::move(pipe)), stop_(std::move(stop)) {}
  void read() noexcept;

  const UniqueFd pipe_;
  const UniqueFd stop_;                         ///< readable: the thread is to end
  std::function<void(std::string_view)> said_;  ///< set before the thread is there
  std::thread thread_;
};

}  // namespace berth::manager
