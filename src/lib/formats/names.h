#pragma once

#include <cstddef>
#include <string>
#include <string_view>

/// The names of the control tree:
///
///   NAMESPACE/.berth/
///     version  status  status.json  events  metrics  reload  sources
///     control                            written: one of control_command.h, for the host
///     shares/<name>/                     '/' in a share's name makes directories here too
///       state  status  status.json  error  users  log
///       control                          written: one of control_command.h
///       attachments/<instance>/<volume>/ mkdir = attach, rmdir = detach
///         attached                       which process has attached, and when
namespace berth::formats {

/// The control tree's directory in the root of a namespace.
inline constexpr std::string_view kTree = ".berth";

// In the tree's root.
inline constexpr std::string_view kVersion = "version";
inline constexpr std::string_view kEvents = "events";
inline constexpr std::string_view kMetrics = "metrics";
inline constexpr std::string_view kShares = "shares";
/// What the last reload came to.
inline constexpr std::string_view kReload = "reload";
/// What the last one that was only tried would come to.
inline constexpr std::string_view kReloadDryRun = "reload-dry-run";
/// The catalog sources.
inline constexpr std::string_view kSources = "sources";

// In the root and in each share's directory.
inline constexpr std::string_view kStatus = "status";
inline constexpr std::string_view kStatusJson = "status.json";

// In the root and in each share's directory, too: kControl.

// In each share's directory.
inline constexpr std::string_view kState = "state";
inline constexpr std::string_view kError = "error";
inline constexpr std::string_view kUsers = "users";
inline constexpr std::string_view kLog = "log";
inline constexpr std::string_view kControl = "control";
inline constexpr std::string_view kAttachments = "attachments";

// In the directory of an attachment.
inline constexpr std::string_view kAttached = "attached";

/// Type of the namespace's mount in the mount table, by which a berth is found.
inline constexpr std::string_view kMountType = "fuse.berth";

/// The commands that start a berth as a service, and that take the namespace of one that has died off. `is_roots`: root
/// serves it, and no other user.
std::string start_command(bool is_roots);
std::string unmount_command(const std::string& namespace_directory, bool is_roots);

/// The path of the control tree's root. `namespace_directory` without a trailing '/'.
std::string tree_path(std::string_view namespace_directory);
/// The path of a share's directory in the control tree.
std::string share_path(std::string_view namespace_directory, std::string_view share);

/// Whether `name` is one path component that a directory can be made with: an instance, a volume, a part of a share's
/// name.
bool is_component(std::string_view name) noexcept;

}  // namespace berth::formats
