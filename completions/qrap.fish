# Generated from the table of flags.
complete -c qrap -x -a '(__fish_complete_subcommand --fcs-skip=2)'
