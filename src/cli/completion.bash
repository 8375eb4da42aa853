# shellcheck shell=bash
# bash completion for berth(8). Everything that can change is asked of berth itself.
# Names of shares are anybody's: they are compared as they are, never expanded (compgen -W would).

_berth_tree() { # the control tree that the command line will use
  local i directory=${BERTH_NAMESPACE-}
  for ((i = 1; i < COMP_CWORD; i++)); do
    [[ ${COMP_WORDS[i]} == -n || ${COMP_WORDS[i]} == --namespace ]] && directory=${COMP_WORDS[i + 1]}
  done
  [[ $directory ]] || directory=$(findmnt --noheadings --first-only --types fuse.berth --output TARGET 2>/dev/null)
  [[ $directory ]] && printf '%s/.berth' "$directory"
}

_berth_shares() {
  find "$(_berth_tree)/shares" -name control -type f -printf '%P\n' 2>/dev/null | sed 's|/control$||'
}

_berth_directories() { # the names of the directories in one of the control tree
  find "$(_berth_tree)/$1" -mindepth 1 -maxdepth 1 -type d -printf '%f\n' 2>/dev/null
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

_berth() {
  local program=${COMP_WORDS[0]} current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command='' i word
  local given=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
      -n | --namespace | -c | --config | --share | --state-dir | --log-level | --timeout | --sort | --textfile | -t | --type | -s | --source | -o | --option | --set) ((i++)) ;;
      -*) ;;
      *) if [[ $command ]]; then given+=("${COMP_WORDS[i]}"); else command=${COMP_WORDS[i]}; fi ;;
    esac
  done
  COMPREPLY=()
  case $command${given:+-file}:$previous:$current in
    *:-n:* | *:--namespace:* | *:--state-dir:*) mapfile -t COMPREPLY < <(compgen -d -- "$current") ;;
    *:-c:* | *:--config:* | *:--textfile:* | check:*:[^-]* | check:*: | doctor:*:[^-]* | doctor:*: | import-file:*:[^-]* | import-file:*:) mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
    *:--sort:*) mapfile -t COMPREPLY < <(compgen -W 'name state users since' -- "$current") ;;
    *:--log-level:*) mapfile -t COMPREPLY < <(compgen -W 'debug info warning error' -- "$current") ;;
    *)
      while IFS= read -r word; do
        [[ $word == "$current"* ]] && COMPREPLY+=("$word")
      done < <(_berth_candidates "$command" "${given[@]}")
      ;;
  esac
}

complete -o filenames -F _berth berth
