#pragma once

/// The words of the help, apart from the machinery that lays them out. What the options are stands with their
/// definition, in parse.cc.
namespace berth::cli {

struct CommandText {
  const char* name;
  const char* description;
  const char* usage;
  const char* footer;
};

inline constexpr CommandText kBerthText{
    "berth",
    "berth shows every share as a directory. It mounts a share when a program goes in, and unmounts it when no program "
    "uses it.",
    "berth COMMAND [OPTIONS] [ARGUMENTS]",
    R"(All commands but serve, check, doctor, add, remove, import, exec and shell only
read and write the control tree, NAMESPACE/.berth. What they do can be done by
cat, mkdir and echo.

Environment:
  BERTH_NAMESPACE         The namespace, where --namespace is not given
  NO_COLOR                No colours, even on a terminal

Exit status:
  0   success
  1   what was asked for failed
  64  the command line was not understood
  69  there is no namespace, or no berth serves it
  71  the system lacks or refuses something that serve needs
  77  the caller may not do this
  78  the configuration is wrong or missing

Examples:
  berth serve --namespace /volumes --share scratch=/srv/scratch
  berth status
  berth attach media vm-17 disk-0

`berth help COMMAND` says more about a command; see also berth(8) and
berth.toml(5).)"};

inline constexpr CommandText kServeText{
    "serve", "Serve a namespace until SIGTERM or SIGINT; a second signal forces",
    "berth serve [--config FILE] [--namespace DIR] [--share NAME=DIR]... [--state-dir DIR] [--log-level LEVEL]",
    R"(Nothing is mounted at the start but what is attached: each share is when a
program first goes in. At the end everything is unmounted. Attachments are kept
in the state directory and survive; with --share alone and no --state-dir they
end with berth.

Examples:
  berth serve
  berth serve --config ./berth.toml --log-level debug
  berth serve --namespace /tmp/volumes --share music=/srv/music)"};

inline constexpr CommandText kCheckText{"check", "Check a configuration and say what is wrong with it",
                                        "berth check [OPTIONS] [FILE]",
                                        R"(Reads the configuration as serve does, with its drop-in directory, and starts
nothing. Then looks at this host: types, helpers and programs that are missing,
sources and servers that are not there, and what else `berth doctor` explains.
Fails for what cannot work, with exit status 78, and warns of the rest. What
does not answer is waited for 5 seconds.

Examples:
  berth check
  berth check --strict
  berth check --offline ./berth.toml)"};

inline constexpr CommandText kDoctorText{
    "doctor", "Say what this host lacks, what it costs, and what to do", "berth doctor [OPTIONS] [FILE]",
    R"(What the kernel gives, and all that `berth check` finds, each finding with what
it costs and what to do. Without a configuration it is about the host alone.
Nothing is mounted or changed. Exit status 1: something cannot work.

Examples:
  berth doctor
  berth doctor --json | jq -r '.findings[] | .id + ": " + .what')"};

inline constexpr CommandText kStatusText{"status", "Show the state of all shares, or everything about one",
                                         "berth status [OPTIONS] [SHARE]",
                                         R"(Never mounts anything and never waits for a share. The same is in
NAMESPACE/.berth/status and status.json, and in NAMESPACE/.berth/shares/SHARE/.

On a terminal names and sources are cut to its width, and times are told as of
now. Below the row of a share that has failed stands the reason.

Examples:
  berth status
  berth status --failed --sort since
  berth status home/alice
  berth status --json | jq -r '.shares[] | select(.state == "failed").name')"};

inline constexpr CommandText kAttachText{
    "attach", "Mount a share and keep it mounted for an instance and a volume",
    "berth attach [OPTIONS] SHARE INSTANCE VOLUME",
    R"(Returns when the share is mounted, or fails with the reason why it cannot be.
Attaching the same twice is attaching once. The same as:
  mkdir -p NAMESPACE/.berth/shares/SHARE/attachments/INSTANCE/VOLUME

Example:
  berth attach media vm-17 disk-0)"};

inline constexpr CommandText kDetachText{"detach", "Give an attachment back",
                                         "berth detach [OPTIONS] SHARE INSTANCE VOLUME",
                                         R"(The share is unmounted when no program has used it for its idle_timeout. The
same as:
  rmdir NAMESPACE/.berth/shares/SHARE/attachments/INSTANCE/VOLUME

Example:
  berth detach media vm-17 disk-0)"};

inline constexpr CommandText kMountText{
    "mount", "Mount a share now", "berth mount [OPTIONS] SHARE",
    R"(Forgets a remembered failure first. Returns when the share is mounted, or fails
with the reason. It does not keep the share mounted: attach does. The same as:
  echo mount > NAMESPACE/.berth/shares/SHARE/control

Example:
  berth mount media)"};

inline constexpr CommandText kUnmountText{
    "unmount", "Unmount a share now", "berth unmount [OPTIONS] SHARE",
    R"(Fails where the share is in use; NAMESPACE/.berth/shares/SHARE/users names what
uses it. The next access mounts it again. The same as:
  echo unmount > NAMESPACE/.berth/shares/SHARE/control (or force-unmount)

Examples:
  berth unmount media
  berth unmount --force media)"};

inline constexpr CommandText kRemountText{
    "remount", "Mount a share anew, by what a reload has left pending", "berth remount [OPTIONS] SHARE",
    R"(A share whose type, source or options have changed keeps its old mount while it
is in use, and is mounted by the new ones afterwards. This does it now, and
fails where the share is in use. Attachments are kept. The same as:
  echo remount > NAMESPACE/.berth/shares/SHARE/control (or force-remount)

Examples:
  berth remount media
  berth remount --force media)"};

inline constexpr CommandText kRetryText{
    "retry", "Forget why a share could not be mounted, so that the next access tries again",
    "berth retry [OPTIONS] SHARE",
    R"(After a failure a share refuses for a while, with the remembered error, before
it is tried again. The same as:
  echo retry > NAMESPACE/.berth/shares/SHARE/control

Example:
  berth retry media)"};

inline constexpr CommandText kAddText{
    "add", "Add a share: write a file for it, and put it in force",
    "berth add [OPTIONS] NAME --type TYPE [--source SOURCE]... [--option OPTION]... [--set KEY=VALUE]...",
    R"(Checks the configuration with the share first, as `berth check --offline` does,
writes shares.d/NAME.toml beside it (which only root can read), warns of what
`berth check` finds in the share, and prints what the reload says. What the
reload refuses is undone. A name that is there already is refused. Where no
berth serves the namespace, the share is there at the next start.

Examples:
  berth add media --type nfs --source nfs1:/media --option vers=4.2 --option ro
  berth add home/alice --type bind --source /srv/alice --set idle_timeout=1h
  berth add vault --type ext4 --source /dev/vdb --set 'allow_users=["alice"]')"};

inline constexpr CommandText kRemoveText{
    "remove", "Remove a share: delete its file, and put that in force", "berth remove [OPTIONS] SHARE",
    R"(Deletes shares.d/NAME.toml where it holds this share and no other, and prints
what the reload says. Programs that are in the share go on. A share that stands
elsewhere is refused with file and line: delete its section there, and `berth
reload`.

Example:
  berth remove media)"};

inline constexpr CommandText kImportText{
    "import", "Print the maps of autofs as a configuration", "berth import [OPTIONS] autofs [FILE]",
    R"(Reads the master map and the maps that it names, and prints TOML. A comment says
what is not carried over, with file and line, and which symbolic links keep the
old paths. Changes nothing, mounts nothing, runs no program of a map.

Examples:
  berth import autofs
  berth import autofs /etc/auto.master --namespace /home > berth.toml)"};

inline constexpr CommandText kReloadText{
    "reload", "Read the configuration again, and put its shares in force", "berth reload [OPTIONS]",
    R"(No program in a share is disturbed. What is added is there at once. Of a changed
share times, lists of users, and owner and mode are in force at once; another
type, source or other options as soon as it is not in use. What is removed is
gone for look-ups, and unmounted when the last program has left it and the last
attachment is given back. A mistake has the whole configuration refused. The
same as: SIGHUP, and echo reload > NAMESPACE/.berth/control; what came of it is
in NAMESPACE/.berth/reload

Examples:
  berth reload --dry-run
  berth reload)"};

inline constexpr CommandText kDrainText{
    "drain", "Give out no share any more, and wait until none is in use", "berth drain [OPTIONS]",
    R"(Nothing in use is disturbed: programs inside go on, and a share without users is
unmounted. A program that wants to go in, attach or mount is refused (ESHUTDOWN)
until `berth resume`. detach and unmount go on working. The host stays drained
when the wait is interrupted or timed out, and over a restart. Drained already:
a warning, and the same wait. The same as:
  echo drain > NAMESPACE/.berth/control

Examples:
  berth drain
  berth drain --timeout 5m && poweroff)"};

inline constexpr CommandText kResumeText{
    "resume", "Give out shares again, in a new generation", "berth resume [OPTIONS]",
    R"(Waits for operations that were begun before, each of which ends by itself within
its mount_timeout; files that are open do not matter. What is attached and not
mounted is mounted. Not drained: a warning, and a new generation all the same.
The same as:
  echo resume > NAMESPACE/.berth/control

Example:
  berth resume)"};

inline constexpr CommandText kUpgradeText{
    "upgrade", "Have the installed program go on in the place of the one that serves", "berth upgrade [OPTIONS]",
    R"(Users of the namespace are not disturbed: what is open stays open, and the new
program answers what was asked. It reads the configuration afresh. A program
that cannot go on is refused, and the old one goes on; its log says why. The
same as:
  echo upgrade > NAMESPACE/.berth/control

Example:
  apt upgrade berth && berth upgrade)"};

inline constexpr CommandText kEventsText{"events", "Show what happened to the shares, one line an event",
                                         "berth events [OPTIONS]",
                                         R"(The same as: cat NAMESPACE/.berth/events, or tail -f of it.

Examples:
  berth events
  berth events --follow | grep mount-failed
  berth events --json | jq -r 'select(.event == "mount-failed").share')"};

inline constexpr CommandText kTopText{"top", "Show the table of all shares on the whole terminal, as it changes",
                                      "berth top [OPTIONS]",
                                      R"(The table is read every second. q ends it, the arrows choose a share, Enter
shows all about it, s sorts by the next key, f leaves out shares that work. u
unmounts the chosen share, where it is not in use, and r forgets its failure:
for users that may (berth.toml(5), [control]). Without a terminal: berth status
--watch.

Example:
  berth top --sort users)"};

inline constexpr CommandText kMetricsText{
    "metrics", "Show metrics, or write them down for node exporter", "berth metrics [OPTIONS]",
    R"(The same as: cat NAMESPACE/.berth/metrics, which is OpenMetrics. With --textfile
FILE they are written in the older format that node exporter's textfile
collector reads, and FILE is replaced as a whole. Where no berth serves, FILE
says berth_up 0.

Examples:
  berth metrics
  berth metrics --textfile /var/lib/prometheus/node-exporter/berth.prom)"};

inline constexpr const char* kSortText = "name, state, users or since (default: name)";

inline constexpr const char* kTextfileText =
    "Write to FILE (its name must end in .prom) in the format of node exporter's textfile collector";
inline constexpr CommandText kExecText{"exec", "Execute a program where the namespace of a berth without root is seen",
                                       "berth exec [--namespace DIR] COMMAND [ARGUMENT]...",
                                       R"(Without root and without fusermount3, berth shows its namespace in a mount
namespace of its own. All other commands go there by themselves. Where the
namespace is seen anyway, the program is just executed. Exit status: the
program's; 126 or 127 where there is none.

Examples:
  berth exec ls ~/volumes/music
  berth exec rsync -a ~/volumes/music/ /media/stick/)"};

inline constexpr CommandText kShellText{
    "shell", "Execute your shell where the namespace of a berth without root is seen", "berth shell [--namespace DIR]",
    R"(The same as: berth exec $SHELL

Example:
  berth shell)"};

inline constexpr const char* kNamespaceText =
    "The namespace (default: BERTH_NAMESPACE, else the one that you have mounted, else that of root)";
inline constexpr const char* kChangeNamespaceText = "The namespace (default: what the configuration says)";
inline constexpr const char* kImportNamespaceText =
    "Where the shares will be (default: where the maps are mounted if that is one place, else /volumes)";
inline constexpr const char* kDoctorFileText =
    "The configuration (default: /etc/berth/berth.toml; it need not be there)";
inline constexpr const char* kCheckFileText = "The configuration (default: /etc/berth/berth.toml)";
inline constexpr const char* kServeConfigText =
    "The configuration (default: /etc/berth/berth.toml, unless --share is given)";
inline constexpr const char* kUpgradeConfigText =
    "The namespace that the configuration FILE names, where several are mounted";
inline constexpr const char* kServeNamespaceText =
    "Where to show the shares: an empty directory (default: what the configuration says)";
inline constexpr const char* kServeShareText = "Show the directory DIR as share NAME as well; can be given again";
inline constexpr const char* kServeStateDirText =
    "Where to keep attachments (default: state_dir of the configuration; with shares alone, none)";
inline constexpr const char* kServeLogLevelText = "debug, info, warning or error (default: info)";
inline constexpr const char* kTimeoutText =
    "Wait at most this long, such as 30s or 5m, then fail and say what is in use (default: however long it takes)";
inline constexpr const char* kForceText = "Give up what is in use: its users get errors, unwritten data is lost";

}  // namespace berth::cli
