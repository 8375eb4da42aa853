#include "src/lib/base/error.h"

#include <cerrno>
#include <cstring>

namespace berth {

Error::Error(int code, std::string story)
    : code_(code), story_(story.empty() ? nullptr : std::make_shared<const std::string>(std::move(story))) {}

Error Error::last() noexcept { return Error(errno); }

std::string_view Error::story() const noexcept { return story_ ? std::string_view(*story_) : std::string_view(); }

namespace {

/// Whether a story goes on after a ';' that is not quoted: it says what to do then, and is whole.
bool has_advice(std::string_view story) {
  bool is_quoted = false;
  for (std::size_t at = 0; at + 1 < story.size(); ++at) {
    if (is_quoted && story[at] == '\\') {
      ++at;
    } else if (story[at] == '"') {
      is_quoted = !is_quoted;
    } else if (!is_quoted && story[at] == ';' && story[at + 1] == ' ') {
      return true;
    }
  }
  return false;
}

}  // namespace

std::string Error::message() const {
  if (!story_) return errno_text(code_);
  const std::string text = errno_text(code_);
  // A story that already ends with the kernel's words does not need them twice.
  if (story_->ends_with(text) || has_advice(*story_)) return *story_;
  return *story_ + ": " + text;
}

Error Error::within(std::string_view context) const {
  std::string story(context);
  if (story_) story.append(": ").append(*story_);
  return Error(code_, std::move(story));
}

std::string errno_name(int code) {
  const char* name = strerrorname_np(code);
  return name != nullptr ? std::string(name) : "errno " + std::to_string(code);
}

std::string errno_text(int code) {
  const char* text = strerrordesc_np(code);
  return text != nullptr ? std::string(text) : errno_name(code);
}

}  // namespace berth
