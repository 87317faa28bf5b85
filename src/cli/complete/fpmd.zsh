#compdef fpmd fpmctl spawn-fcgi
# Completion of fpmd, fpmctl and spawn-fcgi in zsh; fpmctl(8), completions. fpmctl knows the words.
_fpmd() {
    local -a answer texts lines
    local line
    answer=("${(@f)$(fpmctl complete ${words[1]:t} -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    for line in "${(@)answer[2,-1]}"; do
        texts+=("${line%%$'\t'*}")
        lines+=("${line//$'\t'/  -- }")
    done
    if (( $#texts )); then
        compadd -l -d lines -a texts
    fi
    case $answer[1] in
        files) _files ;;
        directories) _files -/ ;;
        users) _users ;;
        groups) _groups ;;
    esac
}
if [[ $funcstack[1] == _fpmd ]]; then
    _fpmd "$@"
else
    compdef _fpmd fpmd fpmctl spawn-fcgi
fi
