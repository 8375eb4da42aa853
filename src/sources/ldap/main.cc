// A catalog source: maps of autofs in an LDAP directory. berth-source-ldap(8).

#include <getopt.h>
#include <sysexits.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "src/lib/base/result.h"
#include "src/lib/base/text.h"
#include "src/sources/common/source_output.h"
#include "src/sources/ldap/automount_maps.h"
#include "src/sources/ldap/directory.h"

namespace berth::sources {
namespace {

constexpr const char* kUsage =
    "usage: berth-source-ldap --uri URI [--uri URI...] --base DN [--master MAP]\n"
    "                         [--namespace DIR] [--schema rfc2307bis|rfc2307|nis]\n"
    "                         [--map-class NAME] [--map-name NAME]\n"
    "                         [--entry-class NAME] [--entry-key NAME]\n"
    "                         [--entry-value NAME] [--starttls]\n"
    "                         [--external | --bind-dn DN --password-file FILE]\n"
    "                         [--ca FILE] [--cert FILE] [--key FILE]\n"
    "                         [--interval SECONDS]\n";

struct Arguments {
  DirectorySettings directory;
  MapsSettings maps;
  std::chrono::seconds interval{60};
};

[[noreturn]] void refuse() {
  std::fputs(kUsage, stderr);
  std::exit(EX_USAGE);
}

AutomountNames names_of(std::string_view schema) {
  if (schema == "rfc2307bis") return {};
  if (schema == "rfc2307")
    return {.map_class = "automountMap",
            .map_name = "ou",
            .entry_class = "automount",
            .entry_key = "cn",
            .entry_value = "automountInformation"};
  if (schema == "nis")
    return {.map_class = "nisMap",
            .map_name = "nisMapName",
            .entry_class = "nisObject",
            .entry_key = "cn",
            .entry_value = "nisMapEntry"};
  refuse();
}

/// Where an option's value goes, where it is just a text.
std::string* text_of(Arguments& arguments, std::string_view name) {
  const std::pair<std::string_view, std::string*> texts[] = {{"base", &arguments.directory.base},
                                                             {"bind-dn", &arguments.directory.bind_dn},
                                                             {"ca", &arguments.directory.ca_file},
                                                             {"cert", &arguments.directory.cert_file},
                                                             {"key", &arguments.directory.key_file},
                                                             {"master", &arguments.maps.master},
                                                             {"namespace", &arguments.maps.namespace_directory},
                                                             {"map-class", &arguments.maps.names.map_class},
                                                             {"map-name", &arguments.maps.names.map_name},
                                                             {"entry-class", &arguments.maps.names.entry_class},
                                                             {"entry-key", &arguments.maps.names.entry_key},
                                                             {"entry-value", &arguments.maps.names.entry_value}};
  const auto* const found =
      std::find_if(std::begin(texts), std::end(texts), [&](const auto& one) { return one.first == name; });
  return found == std::end(texts) ? nullptr : found->second;
}

void take(Arguments& arguments, std::string_view name, const char* value) {
  if (std::string* const text = text_of(arguments, name)) {
    *text = value;
  } else if (name == "uri") {
    arguments.directory.uris.emplace_back(value);
  } else if (name == "schema") {
    arguments.maps.names = names_of(value);
  } else if (name == "password-file") {
    arguments.directory.password = read_secret(value);
  } else if (name == "starttls") {
    arguments.directory.starts_tls = true;
  } else if (name == "external") {
    arguments.directory.binds_external = true;
  } else if (name == "interval") {
    arguments.interval = std::chrono::seconds(std::strtol(value, nullptr, 10));
    if (arguments.interval.count() <= 0) give_up("--interval: seconds are expected");
  } else {
    std::fputs(kUsage, stdout);
    std::exit(EXIT_SUCCESS);
  }
}

Arguments parse(int argc, char** argv) {
  std::vector<option> options;
  for (const char* const name :
       {"uri", "base", "master", "namespace", "schema", "map-class", "map-name", "entry-class", "entry-key",
        "entry-value", "bind-dn", "password-file", "ca", "cert", "key", "interval"})
    options.push_back({name, required_argument, nullptr, 0});
  for (const char* const name : {"starttls", "external", "help"}) options.push_back({name, no_argument, nullptr, 0});
  options.push_back({nullptr, 0, nullptr, 0});
  Arguments arguments;
  int index = 0;
  for (int found = 0; (found = ::getopt_long(argc, argv, "", options.data(), &index)) != -1;) {
    if (found != 0) refuse();
    take(arguments, options[static_cast<std::size_t>(index)].name, optarg);
  }
  if (arguments.directory.uris.empty() || arguments.directory.base.empty() || optind < argc) refuse();
  return arguments;
}

/// Says what is otherwise than before.
class Shares {
 public:
  void say(DirectoryShares now) {
    // As a list, which removes nothing then: where an identity may not read the maps any more, the directory looks
    // empty.
    if (now.shares.empty()) said_.clear();
    if (said_.empty()) output_.begin_list();
    for (const auto& [name, share] : now.shares) {
      const auto before = said_.find(name);
      if (before == said_.end() || before->second != share) output_.put(name, share);
    }
    for (const auto& [name, share] : said_) {
      if (!now.shares.contains(name)) output_.remove(name);
    }
    output_.synced();
    said_ = std::move(now.shares);
    if (now.faults != faults_) {
      for (const std::string& fault : now.faults) std::fprintf(stderr, "not carried over: %s\n", prose(fault).c_str());
    }
    faults_ = std::move(now.faults);
  }
  void fail(std::string_view why) { output_.fail(why); }

 private:
  SourceOutput output_;
  std::map<std::string, nlohmann::json> said_;
  std::vector<std::string> faults_;
};

[[noreturn]] void follow(Arguments arguments) {
  Directory directory(std::move(arguments.directory));
  Shares shares;
  Patience patience;
  for (;;) {
    if (Result<DirectoryShares> read = read_maps(directory, arguments.maps)) {
      shares.say(*std::move(read));
      patience.succeed();
      std::this_thread::sleep_for(arguments.interval);
    } else {
      shares.fail(read.error().story());
      directory.use_next();
      patience.wait();
    }
  }
}

}  // namespace
}  // namespace berth::sources

int main(int argc, char** argv) { berth::sources::follow(berth::sources::parse(argc, argv)); }
