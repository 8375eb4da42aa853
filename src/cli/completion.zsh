#compdef berth
# zsh completion for berth(8). Everything that can change is asked of berth itself.
# Any user may have chosen the name of a share: names are compared as they are, never expanded.

_berth_tree() { # the control tree that the command line will use
  local i directory=${BERTH_NAMESPACE-}
  for ((i = 2; i < CURRENT; i++)); do
    [[ ${words[i]} == (-n|--namespace) ]] && directory=${words[i+1]}
  done
  if [[ -z $directory ]]; then
    # The caller's own, else that of root. Of several the program refuses to choose one.
    for i in $UID 0; do
      directory=$(findmnt --noheadings --list --types fuse.berth --options "user_id=$i" --output TARGET 2>/dev/null)
      [[ -z $directory ]] || break
    done
    [[ $directory != *$'\n'* ]] || directory=''
  fi
  [[ -n $directory ]] && print -r -- "$directory/.berth"
}

_berth_shares() {
  find "$(_berth_tree)/shares" -name control -type f -printf '%P\n' 2>/dev/null | sed 's|/control$||'
}

_berth_directories() { # the names of the directories in one of the control tree
  find "$(_berth_tree)/$1" -mindepth 1 -maxdepth 1 -type d -printf '%f\n' 2>/dev/null
}

_berth_candidates() { # one a line, for the command and the arguments before the current word
  local program=${words[1]} current=${words[CURRENT]} command=$1
  shift
  if [[ $current == -* ]]; then
    "$program" ${command:+"$command"} --help 2>/dev/null | sed -nE 's/^  (-[a-z],)?(--[a-z-]+).*/\2/p'
  elif [[ -z $command ]] || { (( $# == 0 )) && [[ $command == help ]] }; then
    "$program" --help 2>/dev/null | sed -nE '/^Commands:/,/^$/s/^  ([a-z]+) .*/\1/p'
  elif (( $# == 0 )) && [[ $command == (status|attach|detach|mount|unmount|remount|retry|remove) ]]; then
    _berth_shares
  elif (( $# == 0 )) && [[ $command == import ]]; then
    echo autofs
  elif [[ $command == detach ]] && (( $# < 3 )); then
    _berth_directories "shares/$1/attachments${2:+/$2}"
  fi
}

_berth() {
  local i command previous=${words[CURRENT-1]}
  local -a given
  for ((i = 2; i < CURRENT; i++)); do
    case ${words[i]} in
      (-n|--namespace|-c|--config|--share|--state-dir|--log-level|--timeout|--sort|--textfile|-t|--type|-s|--source|-o|--option|--set) ((i++)) ;;
      (-*) ;;
      (*) if [[ -n $command ]]; then given+=("${words[i]}"); else command=${words[i]}; fi ;;
    esac
  done
  case $command${given:+-file}:$previous:${words[CURRENT]} in
    (*:-n:*|*:--namespace:*|*:--state-dir:*) _files -/ ;;
    (*:-c:*|*:--config:*|*:--textfile:*|check:*:[^-]*|check:*:|doctor:*:[^-]*|doctor:*:|import-file:*:[^-]*|import-file:*:) _files ;;
    (*:--sort:*) compadd -- name state users since ;;
    (*:--log-level:*) compadd -- debug info warning error ;;
    (*:-t:*|*:--type:*) compadd -- bind btrfs cifs command dir erofs ext4 fuse.rclone fuse.sshfs iso9660 nfs overlay squashfs tmpfs xfs ;;
    (*:--set:*)
      compadd -S '' -- access= allow_devices= allow_groups= allow_suid= allow_users= attr_timeout= browse= environment= environment_file= \
        group= hidden= idle_timeout= lookup_timeout= mode= mount= mount_timeout= negative_timeout= on_stale= owner= positive_timeout= \
        program= read_only= reopen= request_timeout= requires= stall_timeout= unmount= unmount_timeout=
      ;;
    (*:--share:*|*:--timeout:*|*:-s:*|*:--source:*|*:-o:*|*:--option:*) ;;
    (*) compadd -- "${(@f)$(_berth_candidates "$command" "${given[@]}")}" ;;
  esac
}

_berth "$@"
