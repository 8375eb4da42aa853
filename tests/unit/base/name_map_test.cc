#include "src/lib/base/name_map.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace berth {
namespace {

/// Values that hold their names themselves.
class Named {
 public:
  explicit Named(std::string name, int mark = 0)
      : name_(std::make_shared<const std::string>(std::move(name))), mark_(mark) {}
  [[nodiscard]] std::string_view name() const { return *name_; }
  [[nodiscard]] int mark() const { return mark_; }

 private:
  std::shared_ptr<const std::string> name_;
  int mark_;
};

NameMap<Named> map_of(const std::vector<std::string>& names) {
  NameMap<Named> map;
  for (const std::string& name : names) {
    Named named(name);
    const std::string_view its_name = named.name();
    map.add(its_name, std::move(named));
  }
  return map;
}

std::vector<std::string> names_in(const NameMap<Named>& map) {
  std::vector<std::string> names;
  for (const auto& [name, named] : map) {
    EXPECT_EQ(name.data(), named.name().data());
    names.emplace_back(name);
  }
  return names;
}

TEST(NameMap, IsInOrderHoweverItWasFilled) {
  const std::vector<std::string> sorted{"", "a", "a-b", "a/b", "ab", "b", "\xff"};
  EXPECT_EQ(names_in(map_of(sorted)), sorted);
  EXPECT_EQ(names_in(map_of({"b", "ab", "\xff", "a", "", "a/b", "a-b"})), sorted);
}

TEST(NameMap, FindsWhatIsThereAlone) {
  const NameMap<Named> map = map_of({"c", "a", "b/c"});
  EXPECT_EQ(map.size(), 3U);
  EXPECT_TRUE(map.contains("b/c"));
  EXPECT_EQ(map.find("a")->second.name(), "a");
  for (const char* missing : {"", "b", "b/", "b/cc", "d"}) EXPECT_EQ(map.find(missing), map.end()) << missing;
  EXPECT_EQ(map.lower_bound("b/")->first, "b/c");
  EXPECT_EQ(map.lower_bound("d"), map.end());
  EXPECT_TRUE(NameMap<Named>().empty());
}

TEST(NameMap, FindsWhatLiesAboveAndBelowByWholeComponents) {
  const NameMap<Named> map = map_of({"a", "a-b/c", "a/b/c", "ab"});
  const auto name_at = [&map](NameMap<Named>::const_iterator at) {
    return at == map.end() ? "" : std::string(at->first);
  };
  EXPECT_EQ(name_at(map.find_below("a")), "a/b/c");
  EXPECT_EQ(name_at(map.find_below("a/b")), "a/b/c");
  for (const char* name : {"a/b/c", "ab", "b", "a/"}) EXPECT_EQ(name_at(map.find_below(name)), "") << name;
  EXPECT_EQ(name_at(map.find_above("a/b/c/d")), "a/b/c") << "the nearest";
  EXPECT_EQ(name_at(map.find_above("a/b/c")), "a");
  EXPECT_EQ(name_at(map.find_above("a/b/c", 2)), "");
  EXPECT_EQ(name_at(map.find_above("a/b/c/d", 5)), "a/b/c");
  for (const char* name : {"a", "ab", "abc/d", "a-b/x"}) EXPECT_EQ(name_at(map.find_above(name)), "") << name;
}

TEST(NameMap, FirstOfANameStays) {
  const Named first("a", 1), second("a", 2);
  NameMap<Named> map = map_of({"b"});
  map.add(first.name(), first);
  map.add(second.name(), second);
  EXPECT_EQ(map.size(), 2U);
  EXPECT_EQ(map.find("a")->second.mark(), 1);
}

}  // namespace
}  // namespace berth
