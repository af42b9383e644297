/* The command line: kvnode VERB.
 *
 * One table (verbs.c) names the verbs and their options; help, man page and
 * shell completion are printed from it (help.c). A verb is one function in a
 * file of its own; it gets struct admin and returns an exit status. Data goes
 * to standard output, messages go to standard error. Single-threaded. */
#ifndef KVFS_KVNODE_ADMIN_ADMIN_H
#define KVFS_KVNODE_ADMIN_ADMIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct config;

enum admin_exit {
    EXIT_OK = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_NO_KEY = 3,      /* no such key, directory or version */
    EXIT_UNAVAILABLE = 4, /* no node or no leader; nothing was written */
    EXIT_VERSION = 5,     /* the version is not the expected one; nothing was written */
    EXIT_REFUSED = 6,     /* permissions, limits, kinds; nothing was written */
    EXIT_UNKNOWN = 7,     /* outcome unknown: it may or may not have been executed; or it was, in part */
};

/* Every option of every verb: its place in verbs.c's table. */
enum opt {
    OPT_NODE,
    OPT_CONFIG,
    OPT_SETTING,
    OPT_TIMEOUT,
    OPT_AS,
    OPT_JSON,
    OPT_COLOR,
    OPT_QUIET,
    OPT_VERBOSE,
    OPT_HELP,
    OPT_VERSION,
    OPT_AT_VERSION,
    OPT_LOCAL,
    OPT_IF_VERSION,
    OPT_TTL,
    OPT_FENCE,
    OPT_LEASE,
    OPT_WAIT,
    OPT_SHARED,
    OPT_ELECT,
    OPT_EVERY,
    OPT_RETRY,
    OPT_RECURSIVE,
    OPT_LONG,
    OPT_RAW,
    OPT_WATCH,
    OPT_FOLLOW,
    OPT_LAST,
    OPT_SINCE,
    OPT_INITIAL,
    OPT_VALUES,
    OPT_ONCE,
    OPT_BY,
    OPT_KEY,
    OPT_OF_OP,
    OPT_IN_STEPS,
    OPT_DRY_RUN,
    OPT_NAME,
    OPT_ID,
    OPT_LISTEN,
    OPT_CLUSTER,
    OPT_DATA,
    OPT_SOCKET,
    OPT_PEER,
    OPT_FSTAB,
    OPT_SETTINGS,
    OPT_BRIDGE_PEER,
    OPT_SECONDS,
    OPT_SIZE,
    OPT_KEYS,
    OPT_OUTSTANDING,
    OPT_OP,
    OPT_RATE,
    OPT_SET_BACK,
    OPT_YES,
    OPT_MAN,
    OPT_COMPLETION,
    OPT_COUNT
};

struct admin_option {
    char letter;      /* 0: none */
    const char *name; /* long */
    const char *arg;  /* what its argument is called, NULL: takes none */
    const char *help;
};

struct admin;
struct verb {
    const char *name, *args, *help;
    const char *group; /* heading in the help; NULL: hidden */
    uint64_t options;  /* bit set of enum opt */
    int min_args, max_args;
    int (*run)(struct admin *a);
    const char *note; /* a paragraph for the man page, or NULL */
};

extern const struct admin_option admin_options[OPT_COUNT];
extern const uint64_t admin_global_options;
extern const struct verb admin_verbs[];
extern const size_t admin_n_verbs;
const struct verb *admin_verb(const char *name); /* NULL: none */

#define SETTINGS_MAX 32

struct admin {
    const struct verb *verb;
    const char *opt[OPT_COUNT];         /* borrowed; the argument, "" for one without, NULL: not given */
    const char *settings[SETTINGS_MAX]; /* of -o */
    size_t n_settings;
    int n_args;
    char **args;    /* borrowed from argv */
    char **command; /* what stands behind --, of a verb whose arguments say so; NULL: nothing does */
    unsigned timeout_ms;
    bool color;
    bool quote; /* names go to a terminal: those that could act on it are quoted */
    int (*node_run)(const struct config *config); /* kvnode run, from main() */
};

/* The whole command line. node_run: what `kvnode run` calls. */
int admin_main(int argc, char **argv, int (*node_run)(const struct config *config));
/* Parses into a. EXIT_OK; EXIT_USAGE after a message. With a->verb NULL: only
 * --help, --version or a generator was asked for. */
int admin_parse(struct admin *a, int argc, char **argv);

/* help.c */
void admin_help(FILE *out, const struct verb *verb); /* NULL: of all */
void admin_man(FILE *out);                           /* in scdoc's language */
void admin_completion(FILE *out);                    /* for bash */

/* report.c. All messages are "kvnode: VERB SUBJECT: text". */
/* A usage error; EXIT_USAGE. */
int admin_usage(const struct admin *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Any other failure, said in full. Returns exit. */
int admin_fail(const struct admin *a, int exit, const char *subject, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* A KV_E_* or -errno from a request about subject (a key, or NULL). detail: the
 * node's text, may be "". written: a write was asked for, so say what became of
 * it. Gives the exit status. */
int admin_fail_code(const struct admin *a, const char *subject, int code, const char *detail, bool written);
/* The same of a removal that was done partly: what it says is neither all nor nothing. EXIT_UNKNOWN. */
int admin_fail_partly(const struct admin *a, const char *subject, int code, const char *detail,
                      uint64_t removed);
/* The exit status of a code. */
int admin_exit_of(int code, bool written);
/* A key that a verb was given: EXIT_OK, or the failure's exit status after a message
 * that says which rule it breaks. directory: the root and a slash at the end are fine. */
int admin_key(const struct admin *a, const char *key, bool directory, bool written);
/* To standard error unless -q. */
void admin_say(const struct admin *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* To standard error with -v. */
void admin_detail(const struct admin *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "10m", "1.5s", "200ms", "3" (seconds). False: not a time, or over a week. */
bool admin_parse_time(const char *text, unsigned *ms_out);
/* Decimal from min to max. */
bool admin_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out);

/* The configuration that -c, -n and -o mean. Prints what is wrong. */
int admin_config(const struct admin *a, struct config **config_out);

#endif
