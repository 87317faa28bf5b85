# Completion of fpmd, fpmctl and spawn-fcgi in Bash; fpmctl(8), completions. fpmctl knows the words.
_fpmd() {
    local IFS=$'\n' cur=${COMP_WORDS[COMP_CWORD]} answer
    mapfile -t answer < <(fpmctl complete "${COMP_WORDS[0]##*/}" -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    COMPREPLY=("${answer[@]:1}")
    COMPREPLY=("${COMPREPLY[@]%%$'\t'*}")
    case ${answer[0]-} in
        files) compopt -o filenames 2>/dev/null; COMPREPLY+=($(compgen -f -- "$cur")) ;;
        directories) compopt -o filenames 2>/dev/null; COMPREPLY+=($(compgen -d -- "$cur")) ;;
        users) COMPREPLY+=($(compgen -u -- "$cur")) ;;
        groups) COMPREPLY+=($(compgen -g -- "$cur")) ;;
    esac
}
complete -F _fpmd fpmd fpmctl spawn-fcgi
