#include <algorithm>
#include <memory>
#include <optional>

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

/// Whether all is as it was, but for times of access.
bool unchanged(const Tree& before, const Tree& after) {
  return before.size() == after.size() && std::equal(before.begin(), before.end(), after.begin(), [](auto& a, auto& b) {
           const struct stat &x = a.second.status, &y = b.second.status;
           return a.first == b.first && x.st_mode == y.st_mode && x.st_nlink == y.st_nlink &&
                  x.st_ctim.tv_sec == y.st_ctim.tv_sec && x.st_ctim.tv_nsec == y.st_ctim.tv_nsec;
         });
}

std::string perform(Actors& actors, const std::vector<Operation>& all, std::size_t first, std::size_t end) {
  for (std::size_t i = first; i < end; ++i) {
    const Outcomes outcomes = actors.perform(i);
    if (outcomes.native == outcomes.share) continue;
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
      scene.emplace(Scene{
          std::make_unique<Actors>(all, stage->native, stage->share, type_ == "tmpfs"), Comparison(tolerance()), {}});
      scene->start = look(stage->native, true);
      const std::string text = scene->comparison.compare(scene->start, look(stage->share, true), false);
      if (!text.empty()) failures.push_back("what is there from the start is not alike:\n" + text);
    }
    std::string text = perform(*scene->actors, all, next, next + one.size());
    next += one.size();
    Tree native = look(stage->native, true);
    const bool fresh = unchanged(scene->start, native);
    text += scene->comparison.compare(std::move(native), look(stage->share, true), true);
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
