#include "src/libvirt/guest.h"

#include <libxml/parser.h>
#include <libxml/xpath.h>

#include <cerrno>
#include <filesystem>
#include <memory>

namespace berth::libvirt {
namespace {

/// https://libvirt.org/formatdomain.html. A disk's own file, its backing chain, and the mirror of a block job.
constexpr const char* kFiles =
    "/domain/devices/disk//source/@file | /domain/devices/filesystem[@type='mount']/source/@dir";

template <auto Release>
struct Free {
  template <typename T>
  void operator()(T* one) const noexcept {
    Release(one);
  }
};

}  // namespace

Result<std::set<std::string>> files_in_definition(std::string_view xml) {
  constexpr int kOptions = XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING;
  const std::unique_ptr<xmlDoc, Free<xmlFreeDoc>> document(
      ::xmlReadMemory(xml.data(), static_cast<int>(xml.size()), "domain.xml", nullptr, kOptions));
  if (!document) return fail(EBADMSG, "the definition of a guest is no XML");
  const std::unique_ptr<xmlXPathContext, Free<xmlXPathFreeContext>> context(::xmlXPathNewContext(document.get()));
  if (!context) return fail(ENOMEM);
  const std::unique_ptr<xmlXPathObject, Free<xmlXPathFreeObject>> found(
      ::xmlXPathEvalExpression(reinterpret_cast<const xmlChar*>(kFiles), context.get()));
  if (!found) return fail(ENOMEM);
  std::set<std::string> files;
  const xmlNodeSet* const nodes = found->nodesetval;
  for (int number = 0; nodes != nullptr && number < nodes->nodeNr; ++number) {
    const std::unique_ptr<xmlChar, xmlFreeFunc> value(::xmlNodeGetContent(nodes->nodeTab[number]), xmlFree);
    if (!value) return fail(ENOMEM);
    const std::string path = std::filesystem::path(reinterpret_cast<const char*>(value.get())).lexically_normal();
    if (path.starts_with('/')) files.insert(path);
  }
  return files;
}

}  // namespace berth::libvirt
