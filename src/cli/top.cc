#include "src/cli/top.h"

// Its macros are words such as "timeout" and "clear".
#define NCURSES_NOMACROS 1
#define NCURSES_WIDECHAR 1
#include <ncurses.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <clocale>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "src/cli/table.h"
#include "src/lib/base/text.h"
#include "src/lib/formats/names.h"
#include "src/lib/formats/render.h"

namespace berth::cli {
namespace {

constexpr int kEscape = 27;
constexpr std::array<const char*, 4> kKeys{"name", "state", "users", "since"};
/// Pairs of colours of ncurses; 0 is the terminal's own.
enum Colour : short { kPlain, kGreen, kYellow, kRed };

volatile sig_atomic_t interrupted = 0;

/// The terminal as ncurses has it, until the end of its life. One at a time.
class Screen {
 public:
  Screen() {
    // Before ncurses, whose own handler ends the program with an error.
    struct sigaction action {};
    action.sa_handler = [](int) { interrupted = 1; };  // without SA_RESTART: getch() returns
    ::sigaction(SIGINT, &action, &before_);
    std::setlocale(LC_ALL, "");
    terminal_ = ::newterm(nullptr, stdout, stdin);
    if (terminal_ == nullptr) return;
    ::cbreak();
    ::noecho();
    ::keypad(::stdscr, true);
    ::curs_set(0);
    ::set_escdelay(50);  // milliseconds: a lone Escape is the key
    if (std::getenv("NO_COLOR") != nullptr || !::has_colors()) return;
    ::start_color();
    ::use_default_colors();
    for (const auto& [pair, colour] : {std::pair(kGreen, COLOR_GREEN), {kYellow, COLOR_YELLOW}, {kRed, COLOR_RED}})
      ::init_pair(pair, static_cast<short>(colour), -1);
  }
  ~Screen() {
    if (terminal_ != nullptr) {
      ::endwin();
      ::delscreen(terminal_);
    }
    ::sigaction(SIGINT, &before_, nullptr);
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  [[nodiscard]] explicit operator bool() const noexcept { return terminal_ != nullptr; }

  [[nodiscard]] static std::size_t height() { return static_cast<std::size_t>(std::max(::getmaxy(::stdscr), 2)); }
  [[nodiscard]] static std::size_t width() { return static_cast<std::size_t>(std::max(::getmaxx(::stdscr), 20)); }

  /// Writes a line, as far as there is room for it.
  static void put(std::size_t row, const std::string& line, attr_t look = A_NORMAL) {
    ::move(static_cast<int>(row), 0);
    ::attrset(static_cast<int>(look));
    if ((look & A_REVERSE) != 0) ::hline(' ' | look, ::getmaxx(::stdscr));
    ::addnstr(line.c_str(), static_cast<int>(line.size()));
    ::attrset(A_NORMAL);
  }

 private:
  struct sigaction before_ {};
  SCREEN* terminal_ = nullptr;
};

attr_t look_of(const std::string& state) {
  if (state == "mounted") return static_cast<attr_t>(COLOR_PAIR(kGreen));
  if (state == "failed" || state == "stalled") return static_cast<attr_t>(COLOR_PAIR(kRed));
  if (state == "idle") return A_DIM;
  return static_cast<attr_t>(COLOR_PAIR(kYellow));
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (const std::string_view line : split(text, '\n')) lines.emplace_back(line);
  if (!lines.empty() && lines.back().empty()) lines.pop_back();
  return lines;
}

/// The value of a sample without labels in OpenMetrics; absent: it is not there.
std::optional<double> sample(const std::string& metrics, const std::string& name) {
  const std::size_t at = metrics.find("\n" + name + " ");
  if (at == std::string::npos) return std::nullopt;
  return std::strtod(metrics.c_str() + at + name.size() + 2, nullptr);
}

std::string key_after(const std::string& key) {
  const auto at = static_cast<std::size_t>(std::find(kKeys.begin(), kKeys.end(), key) - kKeys.begin());
  return kKeys[(at + 1) % kKeys.size()];
}

/// What is shown, and what the keys do.
class Top {
 public:
  Top(const Tree& tree, const World& world, std::string sort) : tree_(tree), world_(world), sort_(std::move(sort)) {}

  Result<> run() {
    const auto interval = static_cast<int>(world_.top_interval.count());
    while (interrupted == 0) {
      TRY_VOID(read());
      draw();
      ::timeout(interval);
      // All keys that wait, then one look.
      for (int key = ::getch(); key != ERR; key = ::getch()) {
        if (!press(key)) return {};
        ::timeout(0);
      }
    }
    return {};
  }

 private:
  Result<> read() {
    read_rate();
    table_ = TRY(read_table(tree_, sort_));
    shown_.clear();
    for (const formats::ShareSummary& share : table_.berth.shares) {
      if (!only_troubled_ || share.state == "failed" || share.state == "stalled") shown_.push_back(share);
    }
    // The cursor stays with its share.
    const auto found =
        std::find_if(shown_.begin(), shown_.end(), [&](const auto& share) { return share.name == chosen_; });
    if (found != shown_.end()) row_ = static_cast<std::size_t>(found - shown_.begin());
    choose(row_);
    requests_ = read_requests();
    read_at_ = std::chrono::steady_clock::now();
    return {};
  }

  /// The requests so far; absent: not known.
  std::optional<double> read_requests() {
    const std::string metrics = tree_.read(formats::kMetrics).value_or("");
    parked_ = sample(metrics, "berth_parked_requests").value_or(0);
    stuck_ = sample(metrics, "berth_stuck_threads").value_or(0);
    return sample(metrics, "berth_requests_total");
  }

  /// Requests a second since the last look ended: what a look itself asks is no load of this host. The count is taken
  /// amid the requests of a reading, so from one count to the next there is one whole reading.
  void read_rate() {
    // The first one looks names up that the kernel remembers for those after it.
    if (!requests_) read_requests();
    const std::optional<double> requests = read_requests();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - read_at_;
    const std::optional<double> again = read_requests();
    rate_.reset();
    // A server that took over counts from 0.
    const bool goes_on = requests && requests_ && again && *requests >= *requests_ && *again >= *requests;
    if (goes_on && took.count() > 0)
      rate_ = std::max(0.0, *requests - *requests_ - (*again - *requests)) / took.count();
  }

  void choose(std::size_t row) {
    row_ = shown_.empty() ? 0 : std::min(row, shown_.size() - 1);
    chosen_ = shown_.empty() ? "" : shown_[row_].name;
  }

  [[nodiscard]] std::size_t count() const { return shows_share_ ? share_lines_ : shown_.size(); }

  void draw() {
    ::erase();
    if (shows_share_) {
      draw_share();
    } else {
      draw_table();
    }
    ::refresh();
  }

  void draw_table() {
    const formats::Look look{
        .width = Screen::width(), .now = world_.now(), .reasons = table_.reasons, .only_troubled = only_troubled_};
    const std::vector<std::string> lines = lines_of(formats::render_status(table_.berth, look));
    // Where the rows begin; there is a last one, which is none. A reason is a line of its share's row.
    std::vector<std::size_t> starts(1);
    for (const formats::ShareSummary& share : shown_)
      starts.push_back(starts.back() + (table_.reasons.contains(share.name) ? 2 : 1));
    const std::size_t rows = starts.back();
    const std::size_t above = lines.size() - std::min(rows, lines.size());  // about berth, and the names of the columns
    std::size_t at = 0;
    Screen::put(at++, told());
    // A low window has the names of the columns and a row before all that is about berth.
    constexpr std::size_t kOthers = 3;  // what is told, a row, the keys
    const std::size_t room = Screen::height() > kOthers ? Screen::height() - kOthers : 0;
    for (std::size_t i = above - std::min(above, room); i < above; ++i)
      Screen::put(at++, lines[i], i + 1 == above && rows > 0 ? A_BOLD : A_NORMAL);
    page_ = Screen::height() > at + 1 ? Screen::height() - at - 1 : 1;
    // The chosen row is on the page, its first line before all, and the page is full.
    if (!shown_.empty()) {
      const std::size_t end = starts[row_ + 1];
      first_ = std::clamp(first_, std::min(end > page_ ? end - page_ : 0, starts[row_]), starts[row_]);
    }
    first_ = std::min(first_, rows > page_ ? rows - page_ : 0);
    for (std::size_t share = 0; share < shown_.size(); ++share) {
      const attr_t colour = look_of(shown_[share].state);
      for (std::size_t line = starts[share]; line < starts[share + 1]; ++line) {
        if (line < first_ || line >= first_ + page_ || above + line >= lines.size()) continue;
        Screen::put(at++, lines[above + line], share == row_ ? colour | A_REVERSE : colour);
      }
    }
    Screen::put(Screen::height() - 1, "q quit  arrows choose  Enter look  s sort  f failed  u unmount  r retry", A_DIM);
  }

  [[nodiscard]] std::string told() const {
    std::string text = "sorted by " + sort_;
    if (only_troubled_) text += ", only failed";
    if (rate_) text += "; " + std::to_string(std::lround(*rate_)) + " requests/s";
    if (parked_ > 0) text += ", " + std::to_string(std::lround(parked_)) + " wait for a mount";
    if (stuck_ > 0) text += ", threads stuck: " + std::to_string(std::lround(stuck_));
    return said_.empty() ? text : said_;
  }

  /// All that there is to know of one share.
  void draw_share() {
    const std::string status = read_share(tree_, chosen_, world_.now()).value_or("it is not there any more\n");
    const std::string users = tree_.read(chosen_, formats::kUsers).value_or("");
    const std::vector<std::string> lines = lines_of(users.empty() ? status : status + "\n" + users);
    share_lines_ = lines.size();
    page_ = Screen::height() - 1;
    first_ = std::min(first_, share_lines_ > page_ ? share_lines_ - page_ : 0);
    for (std::size_t i = 0; i < page_ && first_ + i < lines.size(); ++i) Screen::put(i, lines[first_ + i]);
    Screen::put(Screen::height() - 1, "Escape back  arrows scroll  u unmount  r retry  q quit", A_DIM);
  }

  void move_to(std::size_t row) {
    if (shows_share_) {
      first_ = row;
    } else {
      choose(row);
    }
  }

  /// False: the user ends it.
  bool press(int key) {
    const std::size_t at = shows_share_ ? first_ : row_;
    said_.clear();
    switch (key) {
      case 'q':
        return false;
      case KEY_UP:
      case 'k':
        move_to(at - std::min<std::size_t>(at, 1));
        break;
      case KEY_DOWN:
      case 'j':
        move_to(at + 1);
        break;
      case KEY_PPAGE:
        move_to(at - std::min(at, page_));
        break;
      case KEY_NPAGE:
        move_to(at + page_);
        break;
      case KEY_HOME:
        move_to(0);
        break;
      case KEY_END:
        move_to(count());
        break;
      case '\n':
      case KEY_ENTER:
        look_at(!shows_share_ && !chosen_.empty());
        break;
      case kEscape:
      case KEY_BACKSPACE:
        look_at(false);
        break;
      case 's':
        sort_ = key_after(sort_);
        break;
      case 'f':
        only_troubled_ = !only_troubled_;
        break;
      case 'u':
        command(formats::ControlCommand::kUnmount, "unmounted");
        break;
      case 'r':
        command(formats::ControlCommand::kRetry, "is tried again at the next access");
        break;
      default:
        break;
    }
    return true;
  }

  void look_at(bool share) {
    shows_share_ = share;
    first_ = 0;
  }

  void command(formats::ControlCommand word, const std::string& done) {
    if (chosen_.empty()) return;
    const Result<> result = tree_.write(chosen_, word);
    said_ = quote(chosen_) + ": " + (result ? done : result.error().message());
  }

  const Tree& tree_;
  const World& world_;
  std::string sort_;
  bool only_troubled_ = false;
  bool shows_share_ = false;
  SharesTable table_;
  std::vector<formats::ShareSummary> shown_;  ///< of the table
  std::size_t row_ = 0;                       ///< of the cursor
  std::string chosen_;                        ///< the share there
  std::size_t first_ = 0;                     ///< row, or line, at the top
  std::size_t page_ = 1;                      ///< rows that there is room for
  std::size_t share_lines_ = 0;               ///< of the share that is looked at
  std::string said_;                          ///< what came of the last key

  std::optional<double> requests_, rate_;
  double parked_ = 0, stuck_ = 0;
  std::chrono::steady_clock::time_point read_at_{};
};

}  // namespace

Result<> show_top(const Tree& tree, const World& world, const std::string& sort) {
  if (!world.out_is_terminal) return fail(ENOTTY, "it needs a terminal; without one: berth status --watch");
  interrupted = 0;
  const Screen screen;
  if (!screen) {
    const std::string terminal = world.environment("TERM").value_or("");
    return fail(ENOTTY,
                "ncurses does not know the terminal " + quote(terminal) + " (TERM); without it: berth status --watch");
  }
  return Top(tree, world, sort).run();
}

}  // namespace berth::cli
