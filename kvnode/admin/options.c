/* The command line to struct admin, in two passes of getopt_long: up to the verb
 * with the global options, then the verb's own and the global ones again, so
 * that `kvnode --json get k` and `kvnode get k --json` are the same. */
#include "kvnode/admin/verbs.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LONG_BASE 256 /* getopt's value of an option: this + its index */

struct tables {
    struct letter {
        char letter;
        enum opt option;
    } letters[OPT_COUNT];
    size_t n_letters;
    struct option longs[OPT_COUNT + 1];
    size_t n_longs;
    char shorts[2 * OPT_COUNT + 3];
};

static bool has(uint64_t set, enum opt o)
{
    return (set >> o & 1) != 0;
}

static void add(struct tables *t, enum opt o)
{
    const struct admin_option *d = &admin_options[o];
    for (size_t i = 0; i < t->n_longs; i++)
        if (strcmp(t->longs[i].name, d->name) == 0)
            return; /* the verb's --version N hides the global one */
    t->longs[t->n_longs++] = (struct option){.name = d->name,
                                             .has_arg = d->arg != NULL ? required_argument : no_argument,
                                             .val = LONG_BASE + (int)o};
    if (d->letter == 0)
        return;
    size_t len = strlen(t->shorts);
    t->shorts[len++] = d->letter;
    if (d->arg != NULL)
        t->shorts[len] = ':';
    t->letters[t->n_letters++] = (struct letter){d->letter, o};
}

static void build(struct tables *t, const char *prefix, uint64_t own, uint64_t global)
{
    *t = (struct tables){0};
    strcpy(t->shorts, prefix);
    for (int o = 0; o < OPT_COUNT; o++)
        if (has(own, (enum opt)o))
            add(t, (enum opt)o);
    for (int o = 0; o < OPT_COUNT; o++)
        if (has(global, (enum opt)o) && !has(own, (enum opt)o))
            add(t, (enum opt)o);
}

static int take(struct admin *a, enum opt o, const char *arg)
{
    if (o != OPT_SETTING) {
        a->opt[o] = arg != NULL ? arg : "";
        return EXIT_OK;
    }
    if (a->n_settings == SETTINGS_MAX)
        return admin_usage(a, "more than %d -o", SETTINGS_MAX);
    a->settings[a->n_settings++] = arg;
    return EXIT_OK;
}

static int parse_with(struct admin *a, struct tables *t, int argc, char **argv)
{
    int got;
    while ((got = getopt_long(argc, argv, t->shorts, t->longs, NULL)) != -1) {
        if (got == ':' || got == '?') {
            const char *word = argv[optind - 1];
            if (optopt >= LONG_BASE) /* a long option, known, but with or without an argument wrongly */
                return admin_usage(a, got == ':' ? "--%s needs a value" : "--%s takes no value",
                                   admin_options[optopt - LONG_BASE].name);
            if (got == ':')
                return admin_usage(a, "-%c needs a value", optopt);
            if (optopt != 0)
                return admin_usage(a, "unknown option -%c", optopt);
            return admin_usage(a, "unknown or ambiguous option %s", word);
        }
        enum opt o = OPT_COUNT;
        if (got >= LONG_BASE)
            o = (enum opt)(got - LONG_BASE);
        for (size_t i = 0; o == OPT_COUNT && i < t->n_letters; i++)
            if (t->letters[i].letter == got)
                o = t->letters[i].option;
        int rc = take(a, o, optarg);
        if (rc != EXIT_OK)
            return rc;
    }
    return EXIT_OK;
}

bool admin_parse_time(const char *text, unsigned *ms_out)
{
    static const struct {
        const char *unit;
        double ms;
    } units[] = {{"", 1000}, {"s", 1000}, {"ms", 1}, {"m", 60000}, {"h", 3600000}};
    char *end;
    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    double n = strtod(text, &end);
    if (errno != 0)
        return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(end, units[i].unit) == 0) {
            double ms = n * units[i].ms;
            if (!(ms >= 1 && ms <= 7 * 24 * 3600e3))
                return false;
            *ms_out = (unsigned)ms;
            return true;
        }
    return false;
}

bool admin_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    char *end;
    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0' || n < min || n > max)
        return false;
    *out = n;
    return true;
}

static int decide_color(struct admin *a)
{
    const char *when = a->opt[OPT_COLOR] != NULL ? a->opt[OPT_COLOR] : "auto";
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    if (strcmp(when, "always") == 0)
        a->color = true;
    else if (strcmp(when, "never") == 0)
        a->color = false;
    else if (strcmp(when, "auto") == 0)
        a->color = isatty(STDOUT_FILENO) && (no_color == NULL || no_color[0] == '\0') &&
                   (term == NULL || strcmp(term, "dumb") != 0);
    else
        return admin_usage(a, "--color %s: use auto, always or never", when);
    a->quote = isatty(STDOUT_FILENO) && a->opt[OPT_RAW] == NULL;
    return EXIT_OK;
}

/* Letters in which two words differ, roughly: for "did you mean". */
static int distance(const char *a, const char *b)
{
    size_t la = strlen(a), lb = strlen(b), same = 0;
    while (same < la && same < lb && a[same] == b[same])
        same++;
    size_t tail = 0;
    while (tail < la - same && tail < lb - same && a[la - 1 - tail] == b[lb - 1 - tail])
        tail++;
    return (int)((la > lb ? la : lb) - same - tail);
}

static int unknown_verb(const struct admin *a, const char *word)
{
    const char *best = NULL;
    int least = 3;
    for (size_t i = 0; i < admin_n_verbs; i++) {
        int d = distance(word, admin_verbs[i].name);
        if (admin_verbs[i].group != NULL && d < least) {
            least = d;
            best = admin_verbs[i].name;
        }
    }
    if (best != NULL)
        return admin_usage(a, "no such command: %s (did you mean %s?)", word, best);
    return admin_usage(a, "no such command: %s", word);
}

/* The command behind the first --, if the verb takes one. The number of words before it. */
static int split_command(struct admin *a, int argc, char **argv)
{
    if (strstr(a->verb->args, "-- COMMAND") == NULL)
        return argc;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--") == 0) {
            a->command = argv + i + 1;
            return i;
        }
    return argc;
}

int admin_parse(struct admin *a, int argc, char **argv)
{
    uint64_t before = admin_global_options | UINT64_C(1) << OPT_MAN | UINT64_C(1) << OPT_COMPLETION;
    for (int o = OPT_NODE; o <= OPT_JSON; o++)
        before |= UINT64_C(1) << o;
    struct tables t;
    a->timeout_ms = 10000;
    build(&t, "+:", 0, before);
    opterr = 0;
    optind = 0;
    int rc = parse_with(a, &t, argc, argv);
    if (rc != EXIT_OK)
        return rc;
    if (a->opt[OPT_HELP] != NULL || a->opt[OPT_VERSION] != NULL || a->opt[OPT_MAN] != NULL ||
        a->opt[OPT_COMPLETION] != NULL)
        return EXIT_OK;
    if (optind >= argc) {
        admin_help(stderr, NULL);
        return EXIT_USAGE;
    }
    const struct verb *verb = admin_verb(argv[optind]);
    if (verb == NULL)
        return unknown_verb(a, argv[optind]);
    a->verb = verb;
    for (int o = OPT_NODE; o <= OPT_JSON; o++)
        if ((a->opt[o] != NULL || (o == OPT_SETTING && a->n_settings > 0)) &&
            !has(verb->options, (enum opt)o))
            return admin_usage(a, "takes no --%s", admin_options[o].name);
    argc -= optind;
    argv += optind;
    argc = split_command(a, argc, argv);
    build(&t, ":", verb->options, admin_global_options);
    optind = 0;
    rc = parse_with(a, &t, argc, argv);
    if (rc != EXIT_OK || a->opt[OPT_HELP] != NULL || a->opt[OPT_VERSION] != NULL)
        return rc;
    if (a->command != NULL && a->command[0] == NULL)
        return admin_usage(a, "COMMAND is missing behind --");
    a->args = argv + optind;
    a->n_args = argc - optind;
    if (a->n_args < verb->min_args || a->n_args > verb->max_args)
        return admin_usage(a, "%s (kvnode %s %s)",
                           a->n_args < verb->min_args ? "an argument is missing" : "too many arguments",
                           verb->name, verb->args);
    if (a->opt[OPT_TIMEOUT] != NULL && !admin_parse_time(a->opt[OPT_TIMEOUT], &a->timeout_ms))
        return admin_usage(a, "--timeout %s: use a time such as 500ms, 10s or 2m", a->opt[OPT_TIMEOUT]);
    return decide_color(a);
}

int admin_main(int argc, char **argv, int (*node_run)(const struct config *config))
{
    struct admin a = {.node_run = node_run};
    setvbuf(stderr, NULL, _IOLBF, BUFSIZ); /* a message is one write, whoever else writes there */
    int rc = admin_parse(&a, argc, argv);
    if (rc != EXIT_OK)
        return rc;
    if (a.opt[OPT_HELP] != NULL)
        admin_help(stdout, a.verb);
    else if (a.opt[OPT_VERSION] != NULL)
        printf("kvnode %s\n", KVFS_VERSION);
    else if (a.opt[OPT_MAN] != NULL)
        admin_man(stdout);
    else if (a.opt[OPT_COMPLETION] != NULL)
        admin_completion(stdout);
    else
        rc = a.verb->run(&a);
    /* Data that did not reach standard output (a full disk) is a failure. */
    if ((fflush(stdout) != 0 || ferror(stdout)) && rc == EXIT_OK)
        rc = admin_fail(&a, EXIT_FAILED, NULL, "standard output: %s", strerror(errno));
    return rc;
}
