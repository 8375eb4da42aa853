# fish completion for berth(8). Everything that can change is asked of berth itself.

function __berth_tree # the control tree that the command line will use
    set -l directory $BERTH_NAMESPACE
    set -l words (commandline --tokenize --current-process --cut-at-cursor)
    for i in (seq 2 (count $words))
        if contains -- $words[$i] -n --namespace; and set -q words[(math $i + 1)]
            set directory $words[(math $i + 1)]
        end
    end
    # The caller's own, else that of root.
    for user in (id -u) 0
        test -z "$directory"; or break
        set directory (findmnt --noheadings --list --types fuse.berth --options user_id=$user --output TARGET 2>/dev/null)
    end
    # Of several namespaces the program refuses to choose one.
    test (count $directory) = 1; and printf '%s/.berth\n' $directory
end

function __berth_arguments # the command, and what it was given, one a line
    set -l words (commandline --tokenize --current-process --cut-at-cursor)
    set -l i 2
    while test $i -le (count $words)
        switch $words[$i]
            case -n --namespace -c --config --share --state-dir --log-level --timeout --sort --textfile -t --type -s --source -o --option --set
                set i (math $i + 1)
            case '-*'
            case '*'
                printf '%s\n' $words[$i]
        end
        set i (math $i + 1)
    end
end

function __berth_program
    set -l words (commandline --tokenize --current-process --cut-at-cursor)
    echo $words[1]
end

function __berth_candidates # one a line
    set -l given (__berth_arguments)
    set -l program (__berth_program)
    set -l tree (__berth_tree)
    if string match --quiet -- '-*' (commandline --current-token)
        $program $given[1] --help 2>/dev/null | string replace --filter --regex '^  (?:-[a-z],)?(--[a-z-]+).*' '$1'
    else if test (count $given) = 0; or test "$given" = help
        $program --help 2>/dev/null | sed -nE '/^Commands:/,/^$/s/^  ([a-z]+) .*/\1/p'
    else if test (count $given) = 1; and contains -- $given[1] status attach detach mount unmount remount retry remove
        find "$tree/shares" -name control -type f -printf '%P\n' 2>/dev/null | sed 's|/control$||'
    else if test (count $given) = 1; and test $given[1] = import
        echo autofs
    else if test $given[1] = detach; and test (count $given) -lt 4
        set -l within $tree/shares/$given[2]/attachments
        test (count $given) = 3; and set within $within/$given[3]
        find $within -mindepth 1 -maxdepth 1 -type d -printf '%f\n' 2>/dev/null
    end
end

function __berth_previous
    set -l words (commandline --tokenize --current-process --cut-at-cursor)
    contains -- $words[-1] $argv
end

function __berth_wants_file
    set -l given (__berth_arguments)
    __berth_previous -c --config --textfile; and return
    contains -- "$given[1]" check doctor; or test "$given[1]" = import -a (count $given) -gt 1; or return
    not string match --quiet -- '-*' (commandline --current-token)
end

complete --command berth --no-files
complete --command berth --condition '__berth_previous -n --namespace --state-dir' --arguments '(__fish_complete_directories)'
complete --command berth --condition '__berth_wants_file' --force-files
complete --command berth --condition '__berth_previous --sort' --arguments 'name state users since'
complete --command berth --condition '__berth_previous --log-level' --arguments 'debug info warning error'
complete --command berth --condition '__berth_previous -t --type' \
    --arguments 'bind btrfs cifs command dir erofs ext4 fuse.rclone fuse.sshfs iso9660 nfs overlay squashfs tmpfs xfs'
complete --command berth --condition '__berth_previous --set' \
    --arguments 'access= allow_devices= allow_groups= allow_suid= allow_users= attr_timeout= browse= environment= environment_file= group= hidden= idle_timeout= lookup_timeout= mode= mount= mount_timeout= negative_timeout= on_stale= owner= positive_timeout= program= read_only= reopen= request_timeout= requires= stall_timeout= unmount= unmount_timeout='
complete --command berth --arguments '(__berth_candidates)' \
    --condition 'not __berth_previous -n --namespace --state-dir -c --config --log-level --share --timeout --sort --textfile -t --type -s --source -o --option --set; and not __berth_wants_file'
