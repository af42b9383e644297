/* The table of verbs and options: parsing, help, man page and completion all
 * walk it, so a verb or an option exists everywhere or nowhere. */
#include "kvnode/admin/verbs.h"

#include <string.h>

#define BIT(option) (UINT64_C(1) << (option))
#define CLIENT (BIT(OPT_NODE) | BIT(OPT_TIMEOUT) | BIT(OPT_JSON))
#define WRITER (CLIENT | BIT(OPT_AS))
#define CONFIGURED (BIT(OPT_NODE) | BIT(OPT_CONFIG) | BIT(OPT_SETTING))

const struct admin_option admin_options[OPT_COUNT] = {
    [OPT_NODE] = {'n', "node", "NAME", "the node: a name, or the path of its socket ($KVNODE_NODE)"},
    [OPT_CONFIG] = {'c', "config", "FILE", "configuration file ($KVNODE_CONFIG)"},
    [OPT_SETTING] = {'o', "option", "SETTING", "SECTION.NAME=VALUE over variables and file; may be repeated"},
    [OPT_TIMEOUT] = {0, "timeout", "TIME", "give up after this time: 500ms, 10s, 2m (10s)"},
    [OPT_AS] = {0, "as", "NAME",
                "the author's name of what is written, beside user and node ($KVNODE_AUTHOR)"},
    [OPT_JSON] = {0, "json", NULL, "one JSON object a line"},
    [OPT_COLOR] = {0, "color", "WHEN",
                   "auto, always or never; auto means on a terminal and without NO_COLOR"},
    [OPT_QUIET] = {'q', "quiet", NULL, "no messages but errors"},
    [OPT_VERBOSE] = {'v', "verbose", NULL, "say which node is asked and what is waited for"},
    [OPT_HELP] = {'h', "help", NULL, "this text"},
    [OPT_VERSION] = {'V', "version", NULL, "print the version"},
    [OPT_AT_VERSION] = {0, "version", "N", "that version of the key instead of the current one"},
    [OPT_LOCAL] = {0, "local", NULL, "what this node has, without a leader too, however far behind it is"},
    [OPT_IF_VERSION] = {0, "if-version", "N",
                        "only if the current version is N (0: no such key); else exit 5"},
    [OPT_TTL] = {0, "ttl", "TIME", "the key goes when it was not written for so long (90s, 10m, 7d)"},
    [OPT_FENCE] =
        {0, "fence", "N",
         "only if nobody got the lock of this KEY since hold KEY had this KVNODE_FENCE; else exit 5"},
    [OPT_LEASE] = {0, "ttl", "TIME",
                   "the lock is taken when nothing was heard of this for so long (10s; 1s to 1h)"},
    [OPT_WAIT] = {0, "wait", "TIME", "how long to wait for the lock (for ever); 0: not at all"},
    [OPT_SHARED] = {0, "shared", NULL, "together with others who share it"},
    [OPT_ELECT] = {0, "elect", NULL,
                   "write into the key who holds it (user@host, process, fence), and empty it at the end"},
    [OPT_EVERY] = {0, "every", "TIME", "the period in which it runs once: 1h, 1d"},
    [OPT_RETRY] = {0, "retry", "N", "how often it may be tried again in a period when it failed (0)"},
    [OPT_RECURSIVE] = {'r', "recursive", NULL, "directories with all that is in them"},
    [OPT_LONG] = {'l', "long", NULL, "mode, owner, size, time, version"},
    [OPT_RAW] = {0, "raw", NULL, "names byte for byte, on a terminal too"},
    [OPT_WATCH] = {0, "watch", NULL, "again every second, until interrupted"},
    [OPT_FOLLOW] = {0, "follow", NULL, "go on as operations come, until interrupted"},
    [OPT_LAST] = {0, "last", "N", "only the newest N (20)"},
    [OPT_SINCE] = {0, "since", "TOKEN",
                   "what came after it: a token, or a revision such as 0-123, as --json shows it"},
    [OPT_INITIAL] = {0, "initial", NULL, "what there is first, as lines with `exists`"},
    [OPT_VALUES] = {0, "values", NULL, "the values, too, up to 1 MiB each"},
    [OPT_ONCE] = {0, "once", NULL, "end after the first change, with a COMMAND after its first run"},
    [OPT_BY] = {0, "by", "NAME", "only what this author wrote: a name, or user@node"},
    [OPT_KEY] = {0, "key", "KEY", "only of this key and what is below it"},
    [OPT_OF_OP] = {0, "op", "NAME",
                   "only this operation: write (close on a mount), set, del, unlink, rename, expire ..."},
    [OPT_IN_STEPS] = {0, "in-steps", NULL, "several changes, if it is too much for one"},
    [OPT_DRY_RUN] = {0, "dry-run", NULL, "say what would be done, and do nothing"},
    [OPT_NAME] = {0, "name", "NAME", "the node's name (n1)"},
    [OPT_ID] = {0, "id", "N", "the node's number, 1 to 65535 (1)"},
    [OPT_LISTEN] = {0, "listen", "HOST:PORT", "where the other nodes log in (127.0.0.1:7022)"},
    [OPT_CLUSTER] = {0, "cluster", "ID", "join the nodes that were made with this id (a new one)"},
    [OPT_DATA] = {0, "data", "DIR", "data directory"},
    [OPT_SOCKET] = {0, "socket", "PATH", "the socket for clients"},
    [OPT_PEER] = {0, "peer", NULL, "print this node's [peer] section for the other machines' files"},
    [OPT_FSTAB] = {0, "fstab", NULL, "print the line of /etc/fstab that mounts this node's keys"},
    [OPT_SETTINGS] = {0, "cluster", NULL, "the cluster's settings: NAME=VALUE changes one, for all nodes"},
    [OPT_BRIDGE_PEER] = {0, "peer", "NAME", "whose key was used to log in"},
    [OPT_SECONDS] = {0, "seconds", "N", "length of each measurement (3)"},
    [OPT_SIZE] = {0, "size", "N", "bytes a value (100)"},
    [OPT_KEYS] = {0, "keys", "N", "number of keys (1000)"},
    [OPT_OP] = {0, "op", "OP",
                "txn: transactions of a comparison and two sets; hold: a lock and its release; watch: when a "
                "watcher at another node has a set"},
    [OPT_OUTSTANDING] = {0, "outstanding", "LIST", "requests in flight (1,64)"},
    [OPT_SET_BACK] = {0, "set-back", NULL, "set the cluster's time back to the nodes' clocks"},
    [OPT_YES] = {'y', "yes", NULL, "do not ask"},
    [OPT_RATE] = {0, "rate", "N", "MiB a second that each node may read (its scrub_bytes_per_s)"},
    [OPT_MAN] = {0, "man", NULL, "print the man page's source"},
    [OPT_COMPLETION] = {0, "completion", NULL, "print the completion for bash"},
};

const uint64_t admin_global_options =
    BIT(OPT_COLOR) | BIT(OPT_QUIET) | BIT(OPT_VERBOSE) | BIT(OPT_HELP) | BIT(OPT_VERSION);

/* Of those that go on from a revision. */
#define GAP                                                                                                  \
    "Of deleted names, at most max_dead_names (config --cluster) keep their history; when changes after "    \
    "the place it goes on from went with it, a message says between which revisions, with --json an "        \
    "object with the operation gap, after and revision."

#define KEYS "Keys"
#define CLUSTER "Cluster"
#define NODE "Node"
#define TRY "Try out"

const struct verb admin_verbs[] = {
    {"get", "KEY", "print the exact bytes of a value", KEYS, CLIENT | BIT(OPT_AT_VERSION) | BIT(OPT_LOCAL), 1,
     1, verb_get,
     "With --version N an earlier version. --json gives value, or value_base64 when it is not UTF-8, and "
     "ttl and expires of what has a time to live."},
    {"set", "KEY [VALUE|-]", "write a value; missing directories are made", KEYS,
     WRITER | BIT(OPT_IF_VERSION) | BIT(OPT_TTL) | BIT(OPT_FENCE), 1, 2, verb_set,
     "Without VALUE, or with -, the value is read from standard input. The exit status is 0 only when a "
     "majority of the nodes has the value on disk. With --ttl the key is deleted when it was neither written "
     "nor touched for so long; time in which the cluster could not be written to does not count, and no "
     "node's wall clock does. Without it a value stays, unless its directory has a default: setfattr -n "
     "user.kv.ttl -v 10m DIRECTORY, on a mount."},
    {"upd", "KEY [VALUE|-]", "write a value of a key that exists", KEYS, WRITER | BIT(OPT_IF_VERSION), 1, 2,
     verb_set, "As set, but a missing key is an error (exit 3)."},
    {"txn", "[FILE|-]", "several changes at once, all or none, if what is asked for holds", KEYS, WRITER, 0,
     1, verb_txn,
     "A line each, from FILE or standard input: first what must hold, \"if KEY version N\" (0: it is "
     "missing), "
     "\"if KEY fence N\" (as set --fence), \"if KEY missing\", \"if KEY exists\", \"if KEY value V\"; then "
     "what is done, \"set KEY V\", \"set KEY "
     "@FILE\", \"del KEY\", \"move KEY KEY\", \"mkdir KEY\" (set makes missing directories, the others do "
     "not); and behind a line \"else\" what is done if "
     "something does not hold. V is the rest of the line; it and keys may stand in double quotes, with \\\" "
     "\\\\ \\n \\t in them. A # begins a comment. At most 1,024 lines and 64 MiB of values; no key, and no "
     "file, is changed by two lines. What does not hold, without an else: exit 5. --json tells which line, "
     "and which branch was done."},
    {"publish", "SRC-DIR DIR", "make a directory equal to a local tree, at once", KEYS,
     WRITER | BIT(OPT_IN_STEPS) | BIT(OPT_DRY_RUN), 2, 2, verb_publish,
     "Adds, replaces and deletes in one transaction: readers see all of it or nothing. Files that have the "
     "same "
     "length and content are not written. Modes of files are kept, and symbolic links; the modes of "
     "directories are "
     "set right behind it. What is more than 1,024 changes or 64 MiB, or makes a file of a directory, is "
     "refused "
     "(exit 6), unless --in-steps: then it is several transactions, files first, deletions last. In SRC-DIR, "
     "other things than files, directories and symbolic links, and names that cannot be keys, are refused "
     "before "
     "anything is done."},
    {"del", "KEY...", "delete keys; their history stays", KEYS, WRITER | BIT(OPT_RECURSIVE), 1, 1000,
     verb_del, NULL},
    {"ls", "[KEY]", "list a directory", KEYS, CLIENT | BIT(OPT_LONG) | BIT(OPT_LOCAL) | BIT(OPT_RAW), 0, 1,
     verb_ls, "Sorted by name, byte by byte. On a terminal, names that it would act on are quoted."},
    {"history", "KEY", "list a key's versions, newest first", KEYS, CLIENT | BIT(OPT_LAST) | BIT(OPT_LOCAL),
     1, 1, verb_history, NULL},
    {"restore", "KEY VERSION", "make an earlier version the current one, as a new version", KEYS, WRITER, 2,
     2, verb_restore, NULL},
    {"watch", "[KEY] [-- COMMAND...]",
     "print changes of a key or below a directory as they come, or run a command for them", KEYS,
     CLIENT | BIT(OPT_SINCE) | BIT(OPT_INITIAL) | BIT(OPT_VALUES) | BIT(OPT_ONCE) | BIT(OPT_LOCAL) |
         BIT(OPT_RAW),
     0, 1, verb_watch,
     "Until it is interrupted: goes on at the next node when its own dies, and waits for one if there is "
     "none. With --timeout it ends (exit 4) when no node could be read for so long. With --json every line "
     "has a token, from which --since goes on, weeks later and at any node, without leaving anything out; "
     "something may come twice. Every 10 s there is an object with heartbeat, too. What is older than what "
     "is kept "
     "(max_dead_names, config --cluster) is told by the line reset, and exit 5: begin anew with --initial, "
     "which shows what there is and then what changes. A token of another cluster is a usage error. COMMAND "
     "is "
     "run for each batch of changes, never twice at once, with their keys in KVNODE_KEYS, a line each (* if "
     "they are more than 32 KiB, or one has a line break in it), and the token behind them in KVNODE_TOKEN; "
     "changes while it runs are one more batch. TERM and INT end the command, and then watch. With --once "
     "the "
     "exit status is the command's. Names that keep no history (no_history) are not seen."},
    {"log", "", "list operations, oldest first", KEYS,
     CLIENT | BIT(OPT_FOLLOW) | BIT(OPT_LAST) | BIT(OPT_SINCE) | BIT(OPT_BY) | BIT(OPT_KEY) | BIT(OPT_OF_OP) |
         BIT(OPT_LOCAL) | BIT(OPT_RAW),
     0, 0, verb_log,
     "With --follow until it is interrupted: goes on at the next node when its own dies, and waits for one "
     "if "
     "there is none; with --timeout it ends (exit 4) when no node could be read for so long. " GAP},
    {"hold", "KEY [--] COMMAND...", "run a command under a lock of the whole cluster", KEYS,
     BIT(OPT_NODE) | BIT(OPT_TIMEOUT) | BIT(OPT_AS) | BIT(OPT_LEASE) | BIT(OPT_WAIT) | BIT(OPT_SHARED) |
         BIT(OPT_ELECT),
     2, 1000, verb_hold,
     "The lock is that of flock(2) on a mount: one holds the key, whichever way. KEY is made if it is "
     "missing. The "
     "command has KVNODE_KEY and KVNODE_FENCE, a number that grows with each holder: what it writes with set "
     "--fence $KVNODE_FENCE KEY V is refused as soon as somebody else has held the lock; so is a txn that "
     "begins with if KEY fence $KVNODE_FENCE, and that may change other keys. When the lock may be lost, "
     "because no node answers for 3/5 of --ttl or the key is gone, the command and everything that it has "
     "started gets TERM, and KILL at 4/5, before anybody else can have the lock; exit status 7. So it is "
     "when kvnode hold "
     "or its guard is killed or stopped; only when both are stopped (or the machine is), the command may run "
     "on "
     "when another one does, and the fence is what keeps it from harm. What the command leaves running is "
     "ended, "
     "too. The exit status is the command's, 128 and the signal's number if one killed it; 6: somebody else "
     "has "
     "the lock. TERM, INT, HUP and QUIT go to the command."},
    {"once", "KEY [--] COMMAND...", "run a command once in the cluster in a period", KEYS,
     WRITER | BIT(OPT_EVERY) | BIT(OPT_RETRY) | BIT(OPT_LEASE), 2, 1000, verb_once,
     "For the same line in the crontab of every machine: the first one that comes in a period runs the "
     "command, under "
     "the lock of KEY as hold does, and the others exit with 0 and say who runs it or has run it. KEY has "
     "the record, "
     "in JSON: who, when, the exit status, the last 64 KiB of its output, which is printed, too. Time is the "
     "cluster's, "
     "and counts from when the command was begun; who comes up to a tenth of the period (a minute at most) "
     "too "
     "early has come in time. A run that failed counts as one, unless --retry lets the next one who comes "
     "try again. One "
     "that ended with its machine does not count. Use -q in a crontab: cron sends by mail what is said. With "
     "--json the record of a run that was before is printed."},
    {"locks", "[KEY]", "files that are locked, by whom, and who waits", CLUSTER, CLIENT | BIT(OPT_LOCAL), 0,
     1, verb_locks,
     "Of one file, or of all. A line for each lock: what (flock, or bytes of fcntl), whose (process, node, "
     "session and owner of the mount), and behind those who have it those who wait, in their order."},
    {"status", "", "who leads, who lives, who lags", CLUSTER, CLIENT | BIT(OPT_WATCH), 0, 0, verb_status,
     NULL},
    {"members", "", "the nodes of the cluster and their addresses", CLUSTER, CLIENT, 0, 0, verb_members,
     NULL},
    {"readmit", "NODE", "let a node that has gone back or lost its data begin anew", CLUSTER,
     CLIENT | BIT(OPT_YES), 1, 1, verb_readmit,
     "A node whose data directory is an older copy, or was lost, neither votes nor counts: it may have "
     "acknowledged what it does not have any more. Readmitted, it begins with an empty log at its next "
     "start, "
     "and votes again when it has everything. Asks, unless --yes."},
    {"transfer", "[NODE]", "hand leadership to another node", CLUSTER, CLIENT, 0, 1, verb_transfer, NULL},
    {"verify", "", "compare all nodes, and check what they store", CLUSTER, CLIENT | BIT(OPT_RATE), 0, 0,
     verb_verify,
     "Compares the digest of every node's state, history included, at one and the same revision, and makes "
     "each node read its state.db through and check every value and version against its checksum, in the "
     "background. It takes as long as that takes; --timeout counts from the last progress. Exit status 1: "
     "a node differs or is damaged; 4: a node could not be asked, the others are well. What is damaged is "
     "mended by the node itself, with the leader's state. Nodes do the same by themselves every "
     "scrub_interval_s seconds ([storage]; a day, 0: never); status tells what they found."},
    {"clock", "", "the nodes' clocks, and the time of the last change", CLUSTER,
     CLIENT | BIT(OPT_SET_BACK) | BIT(OPT_YES), 0, 0, verb_clock,
     "Times are stamped by the leader, and a later change always bears a later one. If a node whose clock "
     "was "
     "far ahead has stamped something (it can before others know of its clock), the times of all later "
     "changes "
     "are ahead as well, for as long as it takes the clocks to get there. --set-back mends that, if a "
     "majority "
     "of the nodes has clocks that agree. What it costs: changes after it bear earlier times than those "
     "before it, so make, rsync -u and find -newer may take new files for old ones, @TIME names of versions "
     "may "
     "mean others, and files keep the times in the future that they have. Order and numbers of versions do "
     "not change."},
    {"init", "", "make a node: a working cluster of one", NODE,
     BIT(OPT_CONFIG) | BIT(OPT_NAME) | BIT(OPT_ID) | BIT(OPT_LISTEN) | BIT(OPT_CLUSTER) | BIT(OPT_DATA) |
         BIT(OPT_SOCKET),
     0, 0, verb_init,
     "Makes the data directory, two ed25519 keys and the configuration file, and overwrites nothing. For a "
     "cluster of several machines give each the same --cluster and another --name and --id, exchange the "
     "sections that config --peer prints, then run."},
    {"run", "", "run the node in the foreground", NODE, CONFIGURED, 0, 0, verb_run,
     "SIGTERM hands leadership over and stops."},
    {"config", "[NAME=VALUE...]", "print every setting with its source", NODE,
     CONFIGURED | BIT(OPT_JSON) | BIT(OPT_PEER) | BIT(OPT_FSTAB) | BIT(OPT_SETTINGS) | BIT(OPT_TIMEOUT), 0,
     32, verb_config,
     "Without --cluster: the settings of one node's file. With it: those that all nodes share, which are "
     "replicated and take effect at once; NAME=default takes one back. value_limit: the longest value (1 GiB "
     "at "
     "most). max_keys, max_bytes: files, directories and links together, and the bytes of their current "
     "values. session_timeout: the silence after which a mount's session ends. max_dead_names: deleted names "
     "whose history is kept. no_history: patterns of names that keep none, separated by blanks. Sizes "
     "take KiB, MiB, GiB, TiB; times s, min, h, d."},
    {"doctor", "", "check the machine, the files, the node and its peers", NODE,
     CONFIGURED | BIT(OPT_JSON) | BIT(OPT_TIMEOUT), 0, 0, verb_doctor, NULL},
    {"dev", "up [N] | down | kill WHO | start WHO | pause WHO | resume WHO | status",
     "a cluster on this machine to try things with", TRY, BIT(OPT_TIMEOUT) | BIT(OPT_JSON), 1, 2, verb_dev,
     "WHO is a node's name, leader, follower or all. The cluster lives in $KVNODE_DEV_DIR (./run)."},
    {"bench", "", "measure get and set against the disk below them", TRY,
     CLIENT | BIT(OPT_SECONDS) | BIT(OPT_SIZE) | BIT(OPT_KEYS) | BIT(OPT_OUTSTANDING) | BIT(OPT_OP), 0, 0,
     verb_bench, NULL},
    {"bridge", "", "", NULL, BIT(OPT_BRIDGE_PEER) | BIT(OPT_SOCKET), 0, 0, verb_bridge, NULL},
};
const size_t admin_n_verbs = sizeof admin_verbs / sizeof admin_verbs[0];

const struct verb *admin_verb(const char *name)
{
    for (size_t i = 0; i < admin_n_verbs; i++)
        if (strcmp(admin_verbs[i].name, name) == 0)
            return &admin_verbs[i];
    return NULL;
}
