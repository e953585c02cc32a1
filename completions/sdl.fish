# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_sdl_global_optspecs
    string join \n profile= v/verbose q/quiet y/yes color= log-format= log-dir= h/help V/version
end

function __fish_sdl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_sdl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_sdl_using_subcommand
    set -l cmd (__fish_sdl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c sdl -n "__fish_sdl_needs_command" -l profile -d 'Profile to use [default: `$SDL_PROFILE`, ./database.ini, `$XDG_CONFIG_HOME/sdl/database.ini`, /etc/sdl/database.ini]' -r -F
complete -c sdl -n "__fish_sdl_needs_command" -l color -d 'When to use colour; the variable `NO_COLOR` turns it off' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c sdl -n "__fish_sdl_needs_command" -l log-format -d 'How log lines on stderr look' -r -f -a "text\t'A line for people'
json\t'A JSON object a line'"
complete -c sdl -n "__fish_sdl_needs_command" -l log-dir -d 'Write a log file per run into this directory: `YYYYMMDD_HHMMSS_<command>.log`' -r -F
complete -c sdl -n "__fish_sdl_needs_command" -s v -l verbose -d 'Say more: -v operational detail, -vv every record with its outcome'
complete -c sdl -n "__fish_sdl_needs_command" -s q -l quiet -d 'Say nothing but errors and the summary\'s numbers that matter'
complete -c sdl -n "__fish_sdl_needs_command" -s y -l yes -d 'Answer every confirmation with yes'
complete -c sdl -n "__fish_sdl_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c sdl -n "__fish_sdl_needs_command" -s V -l version -d 'Print version'
complete -c sdl -n "__fish_sdl_needs_command" -f -a "replicate" -d 'Copy topics from one Kafka cluster to another, or within one'
complete -c sdl -n "__fish_sdl_needs_command" -f -a "produce-fake" -d 'Fill a topic with fake user-login events, and with faults if asked'
complete -c sdl -n "__fish_sdl_needs_command" -f -a "profile" -d 'List, show or write the profile'
complete -c sdl -n "__fish_sdl_needs_command" -f -a "demo" -d 'See it work: fake logins, copied from one embedded cluster to another, and every record accounted for'
complete -c sdl -n "__fish_sdl_needs_command" -f -a "completions" -d 'Print the completions of a shell'
complete -c sdl -n "__fish_sdl_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l topics-matching -d 'Read every topic whose whole name this regular expression fits, also topics that are created later' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l exclude -d 'Leave out topics whose whole name this fits; wins over everything else' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l group -d 'Consumer group that keeps the positions [default: the section\'s `default_consumer_group_id`]' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l instance-id -d 'Fixed name of this member: after a restart it has its partitions back at once' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l partitions -d 'Read only these partitions (0,2-5), without joining the group; refused while the group has members' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l start -d 'Where to start: `beginning`, `end`, `committed`, an offset, -N (N before the end), @UNIX or @RFC3339 or @DATE, @-1h' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l stop -d 'Where to stop; without it, or another limit, the command follows until it is interrupted' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -s n -l count -d 'Stop after so many records' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l on-gap -d 'What to do where records are missing between the committed position and the log' -r -f -a "refuse\t'The run is refused, with the numbers'
earliest\t'Read on at the first record that is there'
latest\t'Read on behind the last record'"
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l source -d 'Section to read from' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l target -d 'Section to write to' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l to-topic -d 'This name, for a single topic' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l prefix -d 'The same name with this in front' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l rename -d 'A name made from the source\'s: `{topic}` stands for it' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l compression -d 'Compression on the way to the target and in it' -r -f -a "none\t''
gzip\t''
snappy\t''
lz4\t''
zstd\t''"
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l where -d 'Keep only records where this holds: =, !=, <, <=, >, >=, ~ (regex), or a bare field that must be there; all must hold' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l default -d 'Fill a field that is missing or null; a value that is JSON (0, true, "2") is taken as that, else as text' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l require -d 'Take a record for bad that lacks a field, or has another type there: string, int, number, bool, object, array' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l date -d 'Turn Unix seconds, milliseconds or ISO text into ISO 8601 in UTC' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l mask-ip -d 'Replace an address by its network: a.b.c.xxx' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l mask -d 'Replace a value by its HMAC-SHA-256 under the profile\'s `mask_key`' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l keep -d 'Leave only these fields' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l drop -d 'Leave these fields out' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l shape -d 'Shape as `[shape.NAME]` of the profile says, besides these flags' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l batch -d 'Records in a batch [default: 1000 for replicate, 5000 for the sinks]' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l batch-bytes -d 'Bytes in a batch [default: 1MB for replicate, 8MB for the sinks]' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l linger -d 'How long a batch waits to fill [default: 5ms for replicate, 500ms for the sinks]' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l in-flight -d 'Batches in flight [default: 16 for replicate, 4 for the sinks]' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l commit-interval -d 'How often the positions of what was delivered are committed' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l rate -d 'Read at most so fast: 5000 (records a second) or 5MB (bytes a second)' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l retry-for -d 'Fail when nothing could be delivered for so long; without it an outage is waited out' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l wait -d 'How long to wait for the first answer of a server' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l dead-letters -d 'Where bad records go: topic:NAME, topic:SECTION/NAME or file:PATH; without it the run stops at the first' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l dead-letter-limit -d 'Stop when more records than that are bad in that time; `none` for no limit' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l shutdown-timeout -d 'How long to wait at the end for what is in flight' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l log-interval -d 'Without a terminal: a status line every so many records, and at least every 10 s' -r
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -s o -l output -d 'How the summary is written: `text` on stderr, or `json` on stdout' -r -f -a "text\t'For people'
json\t'One JSON document'"
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l profile -d 'Profile to use [default: `$SDL_PROFILE`, ./database.ini, `$XDG_CONFIG_HOME/sdl/database.ini`, /etc/sdl/database.ini]' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l color -d 'When to use colour; the variable `NO_COLOR` turns it off' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l log-format -d 'How log lines on stderr look' -r -f -a "text\t'A line for people'
json\t'A JSON object a line'"
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l log-dir -d 'Write a log file per run into this directory: `YYYYMMDD_HHMMSS_<command>.log`' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l fresh-group -d 'Use a group that nobody has used: <group>-fresh-<8 hex>'
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l from-beginning -d 'Read all that the topics still hold, with the same group: `--start beginning`'
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l until-caught-up -d 'Stop at the ends that the topics have now'
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l adopt-group -d 'Take over the offsets that another flow committed for the group'
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l read-uncommitted -d 'Read records of open and aborted transactions too'
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l no-create -d 'Refuse to create topics or partitions that the target lacks'
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l repartition -d 'Choose the target partition by the key, as Java clients do, instead of keeping the number'
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l origin-header -d 'Add a header `sdl-origin = cluster/topic/partition/offset`, and leave out records that come from the target'
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l commit-each -d 'One record at a time, its commit confirmed by the broker before the next: slow, and literal'
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l skip-bad-records -d 'Leave bad records out; they are counted'
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -l dry-run -d 'Show what would be done, and change nothing'
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -s v -l verbose -d 'Say more: -v operational detail, -vv every record with its outcome'
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -s q -l quiet -d 'Say nothing but errors and the summary\'s numbers that matter'
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -s y -l yes -d 'Answer every confirmation with yes'
complete -c sdl -n "__fish_sdl_using_subcommand replicate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -l target -d 'The Kafka section of the profile to write to' -r
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -s n -l count -d 'Stop after so many records, duplicates included' -r
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -l duration -d 'Stop after this time; with --seed and a --rate in records, after as many records as it has room for' -r
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -l rate -d 'Records a second (5000) or bytes a second (5MB) [default: 10 without -n and --duration, else full speed]' -r
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -l create -d 'Create the topic with so many partitions and replicas, unless it is there' -r
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -l file -d 'Send the records of this file instead, or of standard input (-): what `tail -o ndjson` wrote, or a JSON value a line' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -s o -l output -d 'How the summary is written: `text` on stderr, or `json` on stdout; `ndjson` prints the records instead of sending them' -r -f -a "text\t''
json\t''
ndjson\t''"
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -l seed -d 'Make the same bytes every time' -r
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -l start-time -d 'The first event\'s time: now, Unix seconds or ms, a date or RFC 3339, or -1h [default: now, with --seed 2023-09-12T00:45:51Z]' -r
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -l users -d 'So many users; a few of them log in often' -r
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -l key -d 'What records are keyed by' -r -f -a "user_id\t''
device_id\t''
random\t''
none\t''"
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -l timestamps -d 'How the event\'s time is written' -r -f -a "int\t''
string\t''"
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -l missing -d 'Leave a field out of such a fraction of the events: device_type=0.05' -r
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -l malformed -d 'Break such a fraction of the values: 0.01, or 0.01:KIND,... with truncated, wrong-type, not-utf8, array, huge (900 kB), null (a tombstone)' -r
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -l late -d 'Give such a fraction of the events a time that is past by so much: 0.02:30s' -r
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -l duplicates -d 'Send such a fraction of the records twice in a row' -r
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -l compression -d 'Compression on the way to the topic and in it' -r -f -a "none\t''
gzip\t''
snappy\t''
lz4\t''
zstd\t''"
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -l retry-for -d 'Fail when nothing could be delivered for so long; without it an outage is waited out' -r
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -l wait -d 'How long to wait for the first answer of a server' -r
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -l shutdown-timeout -d 'How long to wait at the end for what is in flight' -r
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -l log-interval -d 'Without a terminal: a status line every so many records, and at least every 10 s' -r
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -l profile -d 'Profile to use [default: `$SDL_PROFILE`, ./database.ini, `$XDG_CONFIG_HOME/sdl/database.ini`, /etc/sdl/database.ini]' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -l color -d 'When to use colour; the variable `NO_COLOR` turns it off' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -l log-format -d 'How log lines on stderr look' -r -f -a "text\t'A line for people'
json\t'A JSON object a line'"
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -l log-dir -d 'Write a log file per run into this directory: `YYYYMMDD_HHMMSS_<command>.log`' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -l dry-run -d 'Show what would be done, and change nothing'
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -s v -l verbose -d 'Say more: -v operational detail, -vv every record with its outcome'
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -s q -l quiet -d 'Say nothing but errors and the summary\'s numbers that matter'
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -s y -l yes -d 'Answer every confirmation with yes'
complete -c sdl -n "__fish_sdl_using_subcommand produce-fake" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and not __fish_seen_subcommand_from list show init help" -l profile -d 'Profile to use [default: `$SDL_PROFILE`, ./database.ini, `$XDG_CONFIG_HOME/sdl/database.ini`, /etc/sdl/database.ini]' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand profile; and not __fish_seen_subcommand_from list show init help" -l color -d 'When to use colour; the variable `NO_COLOR` turns it off' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c sdl -n "__fish_sdl_using_subcommand profile; and not __fish_seen_subcommand_from list show init help" -l log-format -d 'How log lines on stderr look' -r -f -a "text\t'A line for people'
json\t'A JSON object a line'"
complete -c sdl -n "__fish_sdl_using_subcommand profile; and not __fish_seen_subcommand_from list show init help" -l log-dir -d 'Write a log file per run into this directory: `YYYYMMDD_HHMMSS_<command>.log`' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand profile; and not __fish_seen_subcommand_from list show init help" -s v -l verbose -d 'Say more: -v operational detail, -vv every record with its outcome'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and not __fish_seen_subcommand_from list show init help" -s q -l quiet -d 'Say nothing but errors and the summary\'s numbers that matter'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and not __fish_seen_subcommand_from list show init help" -s y -l yes -d 'Answer every confirmation with yes'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and not __fish_seen_subcommand_from list show init help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and not __fish_seen_subcommand_from list show init help" -f -a "list" -d 'List the sections: what each is, and where its servers are'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and not __fish_seen_subcommand_from list show init help" -f -a "show" -d 'Show every value with its origin, secrets hidden'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and not __fish_seen_subcommand_from list show init help" -f -a "init" -d 'Write a profile: asks what it needs and tests each connection'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and not __fish_seen_subcommand_from list show init help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from list" -s o -l output -d 'How to write it' -r -f -a "table\t'Columns for people'
json\t'One document'
ndjson\t'A JSON object a line'
csv\t'Commas and quotes, with a line of names'"
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from list" -l profile -d 'Profile to use [default: `$SDL_PROFILE`, ./database.ini, `$XDG_CONFIG_HOME/sdl/database.ini`, /etc/sdl/database.ini]' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from list" -l color -d 'When to use colour; the variable `NO_COLOR` turns it off' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from list" -l log-format -d 'How log lines on stderr look' -r -f -a "text\t'A line for people'
json\t'A JSON object a line'"
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from list" -l log-dir -d 'Write a log file per run into this directory: `YYYYMMDD_HHMMSS_<command>.log`' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Say more: -v operational detail, -vv every record with its outcome'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Say nothing but errors and the summary\'s numbers that matter'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from list" -s y -l yes -d 'Answer every confirmation with yes'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from show" -s o -l output -d 'How to write it' -r -f -a "table\t'Columns for people'
json\t'One document'
ndjson\t'A JSON object a line'
csv\t'Commas and quotes, with a line of names'"
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from show" -l profile -d 'Profile to use [default: `$SDL_PROFILE`, ./database.ini, `$XDG_CONFIG_HOME/sdl/database.ini`, /etc/sdl/database.ini]' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from show" -l color -d 'When to use colour; the variable `NO_COLOR` turns it off' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from show" -l log-format -d 'How log lines on stderr look' -r -f -a "text\t'A line for people'
json\t'A JSON object a line'"
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from show" -l log-dir -d 'Write a log file per run into this directory: `YYYYMMDD_HHMMSS_<command>.log`' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from show" -s v -l verbose -d 'Say more: -v operational detail, -vv every record with its outcome'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Say nothing but errors and the summary\'s numbers that matter'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from show" -s y -l yes -d 'Answer every confirmation with yes'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from init" -l profile -d 'Profile to use [default: `$SDL_PROFILE`, ./database.ini, `$XDG_CONFIG_HOME/sdl/database.ini`, /etc/sdl/database.ini]' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from init" -l color -d 'When to use colour; the variable `NO_COLOR` turns it off' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from init" -l log-format -d 'How log lines on stderr look' -r -f -a "text\t'A line for people'
json\t'A JSON object a line'"
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from init" -l log-dir -d 'Write a log file per run into this directory: `YYYYMMDD_HHMMSS_<command>.log`' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from init" -s v -l verbose -d 'Say more: -v operational detail, -vv every record with its outcome'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from init" -s q -l quiet -d 'Say nothing but errors and the summary\'s numbers that matter'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from init" -s y -l yes -d 'Answer every confirmation with yes'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from init" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the sections: what each is, and where its servers are'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from help" -f -a "show" -d 'Show every value with its origin, secrets hidden'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from help" -f -a "init" -d 'Write a profile: asks what it needs and tests each connection'
complete -c sdl -n "__fish_sdl_using_subcommand profile; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c sdl -n "__fish_sdl_using_subcommand demo" -l profile -d 'Profile to use [default: `$SDL_PROFILE`, ./database.ini, `$XDG_CONFIG_HOME/sdl/database.ini`, /etc/sdl/database.ini]' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand demo" -l color -d 'When to use colour; the variable `NO_COLOR` turns it off' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c sdl -n "__fish_sdl_using_subcommand demo" -l log-format -d 'How log lines on stderr look' -r -f -a "text\t'A line for people'
json\t'A JSON object a line'"
complete -c sdl -n "__fish_sdl_using_subcommand demo" -l log-dir -d 'Write a log file per run into this directory: `YYYYMMDD_HHMMSS_<command>.log`' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand demo" -s v -l verbose -d 'Say more: -v operational detail, -vv every record with its outcome'
complete -c sdl -n "__fish_sdl_using_subcommand demo" -s q -l quiet -d 'Say nothing but errors and the summary\'s numbers that matter'
complete -c sdl -n "__fish_sdl_using_subcommand demo" -s y -l yes -d 'Answer every confirmation with yes'
complete -c sdl -n "__fish_sdl_using_subcommand demo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c sdl -n "__fish_sdl_using_subcommand completions" -l profile -d 'Profile to use [default: `$SDL_PROFILE`, ./database.ini, `$XDG_CONFIG_HOME/sdl/database.ini`, /etc/sdl/database.ini]' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand completions" -l color -d 'When to use colour; the variable `NO_COLOR` turns it off' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c sdl -n "__fish_sdl_using_subcommand completions" -l log-format -d 'How log lines on stderr look' -r -f -a "text\t'A line for people'
json\t'A JSON object a line'"
complete -c sdl -n "__fish_sdl_using_subcommand completions" -l log-dir -d 'Write a log file per run into this directory: `YYYYMMDD_HHMMSS_<command>.log`' -r -F
complete -c sdl -n "__fish_sdl_using_subcommand completions" -s v -l verbose -d 'Say more: -v operational detail, -vv every record with its outcome'
complete -c sdl -n "__fish_sdl_using_subcommand completions" -s q -l quiet -d 'Say nothing but errors and the summary\'s numbers that matter'
complete -c sdl -n "__fish_sdl_using_subcommand completions" -s y -l yes -d 'Answer every confirmation with yes'
complete -c sdl -n "__fish_sdl_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c sdl -n "__fish_sdl_using_subcommand help; and not __fish_seen_subcommand_from replicate produce-fake profile demo completions help" -f -a "replicate" -d 'Copy topics from one Kafka cluster to another, or within one'
complete -c sdl -n "__fish_sdl_using_subcommand help; and not __fish_seen_subcommand_from replicate produce-fake profile demo completions help" -f -a "produce-fake" -d 'Fill a topic with fake user-login events, and with faults if asked'
complete -c sdl -n "__fish_sdl_using_subcommand help; and not __fish_seen_subcommand_from replicate produce-fake profile demo completions help" -f -a "profile" -d 'List, show or write the profile'
complete -c sdl -n "__fish_sdl_using_subcommand help; and not __fish_seen_subcommand_from replicate produce-fake profile demo completions help" -f -a "demo" -d 'See it work: fake logins, copied from one embedded cluster to another, and every record accounted for'
complete -c sdl -n "__fish_sdl_using_subcommand help; and not __fish_seen_subcommand_from replicate produce-fake profile demo completions help" -f -a "completions" -d 'Print the completions of a shell'
complete -c sdl -n "__fish_sdl_using_subcommand help; and not __fish_seen_subcommand_from replicate produce-fake profile demo completions help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c sdl -n "__fish_sdl_using_subcommand help; and __fish_seen_subcommand_from profile" -f -a "list" -d 'List the sections: what each is, and where its servers are'
complete -c sdl -n "__fish_sdl_using_subcommand help; and __fish_seen_subcommand_from profile" -f -a "show" -d 'Show every value with its origin, secrets hidden'
complete -c sdl -n "__fish_sdl_using_subcommand help; and __fish_seen_subcommand_from profile" -f -a "init" -d 'Write a profile: asks what it needs and tests each connection'
