# Completion of fpmd, fpmctl and spawn-fcgi in fish; fpmctl(8), completions. fpmctl knows the words.
function __fpmd_complete
    set -l words (commandline -opc)
    set -l typed (commandline -ct)
    set -l answer (fpmctl complete (string replace -r '.*/' '' -- $words[1]) -- $words[2..-1] "$typed" 2>/dev/null)
    test (count $answer) -gt 1; and printf '%s\n' $answer[2..-1]
    switch "$answer[1]"
        case files
            __fish_complete_path "$typed"
        case directories
            __fish_complete_directories "$typed"
        case users
            __fish_complete_users
        case groups
            __fish_complete_groups
    end
end
for program in fpmd fpmctl spawn-fcgi
    complete -c $program -f -a '(__fpmd_complete)'
end
