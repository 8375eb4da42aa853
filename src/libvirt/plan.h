#pragma once

#include <compare>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "src/libvirt/guest.h"

namespace berth::libvirt {

/// An attachment of a share, by the names of its two directories.
struct Attachment {
  std::string instance;
  std::string volume;

  friend auto operator<=>(const Attachment&, const Attachment&) = default;
};
using Attachments = std::set<Attachment>;

/// Of shares, by name.
using SharedAttachments = std::map<std::string, Attachments>;

/// The share that `path` lies in, and where in it.
struct Place {
  std::string share;
  std::string rest;  ///< no leading '/'; "/": the share's own directory
};
/// Of a path relative to the namespace. Of several shares it is the one with the longest name; "": it lies in none.
Place place_of(std::string_view path, const std::set<std::string>& shares);
/// `path` without `directory` and the '/' after it; "" where it does not lie below.
std::string_view below(std::string_view path, std::string_view directory);

/// The attachment of a file of a guest: instance ORIGIN:UUID, and the file's path in the share. In that '/' is "%2F",
/// and '%' "%25".
Attachment attachment_of(std::string_view origin, std::string_view uuid, std::string_view rest);
/// Whether an attachment is of `origin`, and so this program's own.
bool is_of(const Attachment& attachment, std::string_view origin);

/// What the guests have in a namespace.
struct Wanted {
  SharedAttachments shares;
  std::map<std::string, std::string> homeless;  ///< a path that lies in no share, and the guest
};
Wanted wanted_in(const std::string& namespace_directory, const std::set<std::string>& shares, const Guests& guests,
                 std::string_view origin);

/// One attachment, as the hypervisor has it and as it is.
struct Line {
  std::string share;
  Attachment attachment;
  std::string guest;         ///< its name; "": none that the hypervisor knows
  bool is_by_hand = false;   ///< of another origin
  std::string disagreement;  ///< "": none
};
/// The hypervisor's attachments and all others beside each other. An attachment by hand disagrees with the hypervisor
/// when its instance is the name or the UUID of a guest that has no file in the share, or a UUID of none. Other names
/// say nothing about guests.
std::vector<Line> compare(const Wanted& wanted, const SharedAttachments& there, const Guests& guests,
                          std::string_view origin);

}  // namespace berth::libvirt
