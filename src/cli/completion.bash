# shellcheck shell=bash
# bash completion for berth(8). Everything that can change is asked of berth itself.
# Any user may have chosen the name of a share: names are compared as they are, never expanded (compgen -W would).

_berth_shares() {
  find "$tree/shares" -name control -type f -printf '%P\n' 2>/dev/null | sed 's|/control$||'
}

_berth_directories() { # the names of the directories in one of the control tree
  find "$tree/$1" -mindepth 1 -maxdepth 1 -type d -printf '%f\n' 2>/dev/null
}

_berth_candidates() { # one a line, for the command and the arguments before the current word
  local command=$1 given=("${@:2}")
  if [[ $current == -* ]]; then
    "$program" ${command:+"$command"} --help 2>/dev/null | sed -nE 's/^  (-[a-z],)?(--[a-z-]+).*/\2/p'
  elif [[ ! $command ]] || { [[ $command == help ]] && ((${#given[@]} == 0)); }; then
    "$program" --help 2>/dev/null | sed -nE '/^Commands:/,/^$/s/^  ([a-z]+) .*/\1/p'
  elif ((${#given[@]} == 0)) && [[ $command =~ ^(status|attach|detach|mount|unmount|remount|retry|remove)$ ]]; then
    _berth_shares
  elif [[ $command == import ]] && ((${#given[@]} == 0)); then
    echo autofs
  elif [[ $command == detach ]] && ((${#given[@]} < 3)); then
    _berth_directories "shares/${given[0]}/attachments${given[1]:+/${given[1]}}"
  fi
}

# Takes the line up to the cursor apart: `words` without their quotes, and of the last one which quote is `open` and how
# much of it (`kept`) stands before the part that readline replaces, which begins after an open quote or a word break.
_berth_words() {
  local line=${COMP_LINE:0:COMP_POINT} i c word='' is_word=''
  words=() open='' kept=''
  for ((i = 0; i < ${#line}; i++)); do
    c=${line:i:1}
    if [[ $open ]]; then
      if [[ $c == "$open" ]]; then
        open=''
      elif [[ $open$c == $'"\\' && ${line:i+1:1} == [\$\`\"\\] ]]; then
        word+=${line:(++i):1}
      else
        word+=$c
      fi
    elif [[ $c == [$' \t\n'] ]]; then
      [[ ! $is_word ]] || words+=("$word")
      word='' is_word='' kept=''
      continue
    elif [[ $c == [\'\"] ]]; then
      open=$c kept=$word
    elif [[ $c == $'\\' ]]; then
      word+=${line:(++i):1}
    else
      word+=$c
      [[ $COMP_WORDBREAKS != *"$c"* ]] || kept=$word
    fi
    is_word=yes
  done
  words+=("$word")
}

_berth_quote() { # `word` as it has to be typed, within the quote that is open
  local i
  case $open in
    \') word=${word//\'/\'\\\'\'} ;;
    \") for i in $'\\' '"' '$' '`'; do word=${word//"$i"/$'\\'"$i"}; done ;;
    *) printf -v word %q "$word" ;;
  esac
}

_berth() {
  local words open kept i word command='' tree='' given=()
  _berth_words
  local last=$((${#words[@]} - 1))
  local program=${words[0]} current=${words[last]} previous=${words[last > 0 ? last - 1 : 0]} directory=${BERTH_NAMESPACE-}
  for ((i = 1; i < last; i++)); do
    case ${words[i]} in
      -n | --namespace) directory=${words[++i]} ;;
      -c | --config | --share | --state-dir | --log-level | --timeout | --sort | --textfile | -t | --type | -s | --source | -o | --option | --set) ((i++)) ;;
      -*) ;;
      *) if [[ $command ]]; then given+=("${words[i]}"); else command=${words[i]}; fi ;;
    esac
  done
  if [[ ! $directory ]]; then
    # The caller's own, else that of root. Of several the program refuses to choose one.
    for i in "$UID" 0; do
      directory=$(findmnt --noheadings --list --types fuse.berth --options "user_id=$i" --output TARGET 2>/dev/null)
      [[ ! $directory ]] || break
    done
    [[ $directory != *$'\n'* ]] || directory=''
  fi
  [[ ! $directory ]] || tree=$directory/.berth
  COMPREPLY=()
  local offered=() are_files=''
  case $command${given:+-file}:$previous:$current in
    *:-n:* | *:--namespace:* | *:--state-dir:*) are_files=yes && mapfile -t offered < <(compgen -d -- "$current") ;;
    *:-c:* | *:--config:* | *:--textfile:* | check:*:[^-]* | check:*: | doctor:*:[^-]* | doctor:*: | import-file:*:[^-]* | import-file:*:) are_files=yes && mapfile -t offered < <(compgen -f -- "$current") ;;
    *:--sort:*) offered=(name state users since) ;;
    *:--log-level:*) offered=(debug info warning error) ;;
    *:-t:* | *:--type:*) offered=(bind btrfs cifs command dir erofs ext4 fuse.rclone fuse.sshfs iso9660 nfs overlay squashfs tmpfs xfs) ;;
    *:--set:*)
      offered=(access= allow_devices= allow_groups= allow_suid= allow_users= attr_timeout= browse= environment= environment_file=
        group= hidden= idle_timeout= lookup_timeout= mode= mount= mount_timeout= negative_timeout= on_stale= owner= positive_timeout=
        program= read_only= reopen= request_timeout= requires= stall_timeout= unmount= unmount_timeout=)
      compopt -o nospace 2>/dev/null
      ;;
    *:--share:* | *:--timeout:* | *:-s:* | *:--source:* | *:-o:* | *:--option:*) ;;
    *) mapfile -t offered < <(_berth_candidates "$command" "${given[@]}") ;;
  esac
  [[ ! $are_files ]] || compopt -o filenames 2>/dev/null # readline quotes the names of files itself
  for word in "${offered[@]}"; do
    [[ $word == "$current"* ]] || continue
    word=${word#"$kept"}
    [[ $are_files ]] || _berth_quote
    COMPREPLY+=("$word")
  done
}

complete -F _berth berth
