#pragma once

#include <string>
#include <vector>

#include "src/config/config.h"

namespace berth::doctor {

struct CheckOptions {
  std::string file;
  bool strict = false;   ///< warnings make it fail
  bool offline = false;  ///< look at the configuration alone, and not at the host
};

/// `berth check`: says what is wrong with a configuration, and what of it cannot work on this host. Returns the exit
/// code.
int check(const CheckOptions& options);

/// What `berth check` says of the shares of a configuration and nothing else, one line each, all of it as warnings.
std::vector<std::string> warnings_of(const config::Configuration& shares);

struct DoctorOptions {
  std::string file;
  bool json = false;
};

/// `berth doctor`: the same, with what the kernel gives, what each finding costs, and what to do. Where the file is the
/// default one and is not there, it is about the host alone. Returns the exit code: 1 where something cannot work.
int doctor(const DoctorOptions& options);

}  // namespace berth::doctor
