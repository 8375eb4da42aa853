#include <algorithm>
#include <memory>
#include <optional>
#include <set>

#include "tests/parity/actors.h"
#include "tests/parity/sides.h"

// Many small cases, one after another: Sides::run_each.
namespace berth::test {
namespace {

/// Where cases are run until one changes something.
struct Scene {
  std::unique_ptr<Actors> actors;
  Comparison comparison;
  Tree start;
};

/// The paths where all is as it was, but for times of access.
std::set<std::string> unchanged(const Tree& before, const Tree& after) {
  std::set<std::string> paths;
  for (const auto& [path, seen] : after) {
    const auto found = before.find(path);
    if (found == before.end()) continue;
    const struct stat &then = found->second.status, &now = seen.status;
    if (then.st_ino == now.st_ino && then.st_ctim.tv_sec == now.st_ctim.tv_sec &&
        then.st_ctim.tv_nsec == now.st_ctim.tv_nsec) {
      paths.insert(path);
    }
  }
  return paths;
}

/// Whether both are names of one file of furnish().
bool are_names_of_one(std::string one, std::string other) {
  for (std::string* const path : {&one, &other}) {
    while (path->ends_with('/')) path->pop_back();
  }
  return one == other || (one == "file" && other == "hard") || (one == "hard" && other == "file");
}

/// That the share is read-only is not known to a FUSE client either, which sees to access(2) and to renames of
/// something to itself alone.
bool is_for_read_only(const Operation& operation, const Outcomes& outcomes) {
  const bool nothing = operation.call->name == "rename" && are_names_of_one(operation.path, operation.other);
  return outcomes.native == "EROFS" && (outcomes.share.starts_with('E') || operation.call->name == "access" || nothing);
}

/// Flags of chattr(1) are not known to a FUSE client: where a call is refused for two reasons, its own comes first, and
/// access(2) does not ask at all.
bool is_for_flags(const Operation& operation, const Outcomes& outcomes) {
  const std::string paths = operation.path + " " + operation.other;
  if (outcomes.native != "EPERM" || paths.find("fixed") + 1 + paths.find("append") + 1 == 0) return false;
  return outcomes.share.starts_with('E') || operation.call->name == "access";
}

std::string perform(Actors& actors, const std::vector<Operation>& all, std::size_t first, std::size_t end,
                    bool read_only) {
  for (std::size_t i = first; i < end; ++i) {
    const Outcomes outcomes = actors.perform(i);
    if (outcomes.native == outcomes.share || is_for_flags(all[i], outcomes)) continue;
    if (read_only && is_for_read_only(all[i], outcomes)) continue;
    return "  after " + all[i].describe() + "\n  answer: " + outcomes.native + "\n  but:    " + outcomes.share + "\n";
  }
  return "";
}

std::string told(const Sides::Case& operations, const std::string& text) {
  std::string story;
  for (const Operation& operation : operations) story += operation.describe() + "\n";
  return story + text;
}

}  // namespace

std::vector<std::string> Sides::run_each(const std::vector<Case>& cases,
                                         const std::function<void(const std::string&)>& furnish, std::size_t most) {
  std::vector<Operation> all;
  for (const Case& one : cases) all.insert(all.end(), one.begin(), one.end());
  std::vector<std::string> failures;
  std::optional<Stage> stage;
  std::optional<Scene> scene;
  std::size_t next = 0;
  for (const Case& one : cases) {
    if (failures.size() >= most) break;
    if (!stage) {
      stage = make_stage(0777);
      furnish(stage->made_native);
      furnish(stage->made_share);
      scene.emplace(
          Scene{std::make_unique<Actors>(all, stage->native, stage->share, is_coarse()), Comparison(tolerance()), {}});
      scene->start = look(stage->native, false);
      const std::string text = scene->comparison.compare(scene->start, look(stage->share, false), false);
      if (!text.empty()) failures.push_back("what is there from the start is not alike:\n" + text);
    }
    std::string text = perform(*scene->actors, all, next, next + one.size(), read_only());
    next += one.size();
    Tree native = look(stage->native, false);
    const std::set<std::string> known = unchanged(scene->start, native);
    const bool fresh = known.size() == native.size() && native.size() == scene->start.size();
    text += scene->comparison.compare(std::move(native), look(stage->share, false), true);
    if (!fresh) {
      text += scene->comparison.compare(look(stage->native, true, known), look(stage->share, true, known), false);
    }
    if (!text.empty()) failures.push_back(told(one, text));
    if (fresh && text.empty()) continue;
    scene.reset();
    if (const std::string left = remove(*stage); !left.empty()) failures.push_back(left);
    stage.reset();
  }
  scene.reset();
  if (stage) failures.push_back(remove(*stage));
  std::erase(failures, "");
  return failures;
}

}  // namespace berth::test
