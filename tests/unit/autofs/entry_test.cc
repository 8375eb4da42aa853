#include "src/autofs/entry.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace berth::autofs {
namespace {

EntryContext key(std::string name) {
  return EntryContext{std::move(name), {{"HOST", "box"}}, {}, true, {{"USER", "${user}"}}};
}
EntryContext wildcard() { return EntryContext{std::nullopt, {{"ODD", "a&$b"}}, {}, true, {{"USER", "${user}"}}}; }

/// "OFFSET TYPE OPTIONS HOST(WEIGHT):PATH ..." for each mount; the story of a failure.
std::vector<std::string> mounts_of(std::string_view value, const EntryContext& context = key("k")) {
  const Result<std::vector<Mount>> mounts = parse_entry(value, context);
  if (!mounts) return {"error: " + std::string(mounts.error().story())};
  std::vector<std::string> result;
  for (const Mount& mount : *mounts) {
    std::string text = mount.offset + " " + mount.type + " ";
    for (const std::string& option : mount.options) text.append(option).append(",");
    for (const Location& location : mount.locations) {
      text.append(" ").append(location.host);
      if (location.weight != 0) text.append("(").append(std::to_string(location.weight)).append(")");
      text.append(":").append(location.path);
    }
    result.push_back(std::move(text));
  }
  return result;
}

using Texts = std::vector<std::string>;

TEST(AutofsEntryTest, ServerPathAndOptions) {
  EXPECT_EQ(mounts_of("filer:/export"), (Texts{"/ nfs  filer:/export"}));
  EXPECT_EQ(mounts_of("-fstype=nfs4,ro,soft -hard  filer:/a # why"), (Texts{"/ nfs4 ro,soft,hard, filer:/a"}));
  EXPECT_EQ(mounts_of("-fstype=ext4 :/dev/sda1"), (Texts{"/ ext4  :/dev/sda1"}));
  EXPECT_EQ(mounts_of("-fstype=cifs,user=a ://server/share"), (Texts{"/ cifs user=a, ://server/share"}));
  EXPECT_EQ(mounts_of("-fstype=fuse,port=22 :sshfs\\#me@host\\:/a"), (Texts{"/ fuse port=22, :sshfs#me@host:/a"}));
  EXPECT_EQ(mounts_of("[fe80::1]:/a"), (Texts{"/ nfs  [fe80::1]:/a"}));
}

TEST(AutofsEntryTest, OptionsOfTheMapComeFirst) {
  EntryContext context = key("k");
  context.options = {"fstype=ext4", "ro"};
  EXPECT_EQ(mounts_of("-rw :/dev/sda1", context), (Texts{"/ ext4 ro,rw, :/dev/sda1"}));
  EXPECT_EQ(mounts_of("-fstype=xfs :/dev/sda1", context), (Texts{"/ xfs ro, :/dev/sda1"}));
}

TEST(AutofsEntryTest, ReplicatedServersWithWeightsAndPaths) {
  EXPECT_EQ(mounts_of("a,b(5):/x c(1):/y"), (Texts{"/ nfs  a:/x b(5):/x c(1):/y"}));
  EXPECT_EQ(mounts_of("a(x):/y").front().substr(0, 6), "error:");
  EXPECT_EQ(mounts_of("a(1:/y").front().substr(0, 6), "error:");
  EXPECT_EQ(mounts_of("a,,b:/y"), mounts_of("a,b:/y")) << "as automount reads it";
  EXPECT_EQ(mounts_of(",:/y").front().substr(0, 6), "error:");
}

TEST(AutofsEntryTest, MultiMountHasItsOptionsAppended) {
  EXPECT_EQ(mounts_of("-rw / -ro s:/ /usr s:/usr /home -soft s:/home t:/home"),
            (Texts{"/ nfs rw,ro, s:/", "/usr nfs rw, s:/usr", "/home nfs rw,soft, s:/home t:/home"}));
  EXPECT_EQ(mounts_of("s:/ /usr// s:/usr"), (Texts{"/ nfs  s:/", "/usr nfs  s:/usr"}));
  EXPECT_EQ(mounts_of("\"/a b\" s:/x"), (Texts{"/a b nfs  s:/x"}));
}

TEST(AutofsEntryTest, KeyAndVariablesArePutInOnceAndAsText) {
  EXPECT_EQ(mounts_of("s:/&/${HOST}/$HOST-x/\\&/\"&$HOST\"", key("a b")), (Texts{"/ nfs  s:/a b/box/box-x/&/&$HOST"}));
  EXPECT_EQ(mounts_of("s:/&", key("$HOST \"x\\ -ro /y")), (Texts{"/ nfs  s:/$HOST \"x\\ -ro /y"}));
  EXPECT_EQ(mounts_of("& s:/x", key("-ro")),
            (Texts{"error: \"-ro\" names no server; it is HOST:PATH, or :PATH for this host"}));
}

TEST(AutofsEntryTest, WildcardKeepsTheMarkOfTheKey) {
  EXPECT_EQ(mounts_of("&:/home/&/\\&\"&\"", wildcard()), (Texts{"/ nfs  &:/home/&/\\&\\&"}));
  EXPECT_EQ(mounts_of(R"(s:/a\\\\&)", wildcard()),
            (Texts{"error: a backslash right before \"&\" cannot be told from one that quotes it"}));
}

TEST(AutofsEntryTest, VariablesOfTheCallerStandInTemplatesAlone) {
  EXPECT_EQ(mounts_of("-user=$USER,x=& s:/${USER}/$ODD/\\$x", wildcard()),
            (Texts{"/ nfs user=${user},x=&, s:/${user}/a\\&\\$b/\\$x"}));
  const std::string of_user = "error: the variable \"$USER\" is of the user that asks";
  EXPECT_EQ(mounts_of("s:/$USER"), (Texts{of_user + "; only the entries of wildcards and programs have it"}));
  for (const std::string options : {"-$USER", "-ro,$USER", "-fstype=$USER", "-ro,fstype=x$USER", "-x$USER=y"}) {
    EXPECT_EQ(mounts_of(options + " :/x", wildcard()),
              (Texts{of_user + ", and would be an option or a type; it can be the value of an option"}))
        << options;
  }
}

TEST(AutofsEntryTest, VariablesOfTheCallerAreTextWhereTheyAreKnown) {
  EntryContext context = key("k");
  context.of_caller = [](std::string_view name) -> Result<std::string> {
    if (name == "USER") return "a b&$x";
    return fail(EACCES, "none");
  };
  EXPECT_EQ(mounts_of("-x=$USER,ro s:/${USER}$HOST", context), (Texts{"/ nfs x=a b&$x,ro, s:/a b&$xbox"}));
  EXPECT_EQ(mounts_of("-$USER s:/x", context).front().substr(0, 6), "error:");
  context.marks["UID"] = "${uid}";
  EXPECT_EQ(mounts_of("s:/$UID", context), (Texts{"error: none"}));
}

TEST(AutofsEntryTest, DollarAtTheEndOfAWordStaysAsInTheNameOfAHiddenShare) {
  EXPECT_EQ(mounts_of("-fstype=cifs,password=pa$ ://srv/c$"), (Texts{"/ cifs password=pa$, ://srv/c$"}));
  EXPECT_EQ(mounts_of("-fstype=cifs /a$ ://srv/a$ /b ://srv/$HOST$\t# hidden"),
            (Texts{"/a$ cifs  ://srv/a$", "/b cifs  ://srv/box$"}));
  EXPECT_EQ(mounts_of("-fstype=cifs ://srv/&$", wildcard()), (Texts{"/ cifs  ://srv/&\\$"}));
}

TEST(AutofsEntryTest, BackslashesAreTakenAwayTwiceAndQuotesBehindThemAreQuotes) {
  EXPECT_EQ(mounts_of(R"(:/x\\y :/x\\\\y :/a\ b :/c\\ d :/e\\)"), (Texts{R"(/ nfs  :/xy :/x\y :/a b :/c d :/e)"}));
  EXPECT_EQ(mounts_of(R"(-context=\"a:b c\",ro "/x\y" :/z)"), (Texts{R"(/x\y nfs context=a:b c,ro, :/z)"}));
  EXPECT_EQ(mounts_of(R"(:/x\\$HOST :/x\\&)"), (Texts{"/ nfs  :/xbox :/xk"}));
  EXPECT_EQ(mounts_of(R"(:/x\"y)"), (Texts{"error: a quote is not closed"}));
  EXPECT_EQ(mounts_of(R"(:/x\"y"z\"")"), (Texts{"error: a quote stands within quotes behind a backslash"}));
  EXPECT_EQ(mounts_of(R"(:/x\\"y z")"),
            (Texts{"error: a quote stands behind two backslashes, and would be a part of the word"}));
}

TEST(AutofsEntryTest, ColonsInAPathBecomeSlashes) {
  EXPECT_EQ(mounts_of("-fstype=x :a:b"), (Texts{"/ x  :a:b"}));
  EXPECT_EQ(mounts_of("s:/a:b t:/c"), (Texts{"/ nfs  s:/a/b t:/c"}));
  EntryContext context = key("k");
  context.slashify_colons = false;
  EXPECT_EQ(mounts_of("s:/a:b", context), (Texts{"/ nfs  s:/a:b"}));
}

TEST(AutofsEntryTest, WhatCannotBeReadIsAnError) {
  EXPECT_EQ(mounts_of("s:/x -ro"), (Texts{"error: the options \"-ro\" stand behind a location, not before it"}));
  EXPECT_EQ(mounts_of("-ro"), (Texts{"error: there is no location to mount at \"/\""}));
  EXPECT_EQ(mounts_of("# all comment"), (Texts{"error: there is no location to mount at \"/\""}));
  EXPECT_EQ(mounts_of("s:/a /x/../y s:/b"), (Texts{"error: the offset \"/x/../y\" holds \"..\""}));
  EXPECT_EQ(mounts_of("s:/a /x s:/b /x/ s:/c"), (Texts{"error: the offset \"/x\" is there twice"}));
  EXPECT_EQ(mounts_of("s:/$NONE"), (Texts{"error: the variable \"$NONE\" has no value"}));
  EXPECT_EQ(mounts_of("s:/${HOST"), (Texts{"error: \"${\" is not closed by '}'"}));
  EXPECT_EQ(mounts_of("s:/$-x"), (Texts{"error: '$' without a name; \"\\$\" is the character"}));
  EXPECT_EQ(mounts_of("s:\"/x"), (Texts{"error: a quote is not closed"}));
  EXPECT_EQ(mounts_of("s:"), (Texts{"error: \"s:\" has no path"}));
  EXPECT_EQ(mounts_of("\"\""), (Texts{"error: a location is empty"}));
  for (const std::string location : {"a b:/x", "a/b:/x"}) {
    EXPECT_EQ(mounts_of("\"" + location + "\""),
              (Texts{"error: \"" + location +
                     "\" starts with what is not the name of a server; a ':' before it would say so"}));
  }
  EXPECT_EQ(mounts_of("-fstype= s:/x"), (Texts{"error: \"fstype=\" names no type"}));
}

}  // namespace
}  // namespace berth::autofs
