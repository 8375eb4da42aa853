#pragma once

#include <vector>

#include "src/config/config.h"
#include "src/doctor/host.h"
#include "src/lib/formats/findings.h"

/// What stands in the way of a configuration on this host. Nothing is mounted, and nothing is changed. What can hang is
/// asked on threads that are left behind.
namespace berth::doctor {

/// The host, whatever is configured. `shares`: how many there are.
std::vector<formats::FindingView> examine_host(const Host& host, std::size_t shares);

/// Types, helpers, programs and options of shares; the namespace, within Host::patience.
std::vector<formats::FindingView> examine_configuration(const Host& host, const config::Configuration& configuration);

/// Paths and servers of shares, within Host::patience.
std::vector<formats::FindingView> examine_sources(const Host& host, const manager::Catalog& catalog);

/// Programs of catalog sources.
std::vector<formats::FindingView> examine_catalog_sources(const Host& host, const config::Configuration& configuration);

/// What berth says that serves the namespace, of itself and of its catalog sources, or that it has died. A berth that
/// does not answer is waited for once, for Host::patience.
std::vector<formats::FindingView> examine_running(const Host& host, const config::Configuration& configuration);

/// The same of all namespaces of this process's user that are mounted at other places than `directory`.
std::vector<formats::FindingView> examine_mounted(const Host& host, const std::string& directory);

/// What there is to say of a configuration, whatever the host is like beside it.
std::vector<formats::FindingView> examine(const Host& host, const config::Configuration& configuration);

/// All of it. `configuration`: null where there is none.
formats::DiagnosisView diagnose(const Host& host, const config::Configuration* configuration);

}  // namespace berth::doctor
