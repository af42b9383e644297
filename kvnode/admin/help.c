/* Help, man page and completion, from the table in verbs.c. */
#include "kvnode/admin/admin.h"

#include <string.h>

#define WIDTH 100

static bool has(const struct verb *v, int o)
{
    return (v->options >> o & 1) != 0;
}

static bool global(int o)
{
    return (admin_global_options >> o & 1) != 0;
}

static int option_text(int o, char *out, size_t size)
{
    const struct admin_option *d = &admin_options[o];
    char letter[8] = "    ";
    if (d->letter != 0)
        snprintf(letter, sizeof letter, "-%c, ", d->letter);
    return snprintf(out, size, "%s--%s%s%s", letter, d->name, d->arg != NULL ? " " : "",
                    d->arg != NULL ? d->arg : "");
}

/* Broken at blanks; its lines begin at that column, where the first one is already. */
static void wrapped(FILE *out, const char *text, int column)
{
    int at = column;
    while (*text != '\0') {
        int word = (int)strcspn(text, " ");
        if (at > column && at + 1 + word > WIDTH) {
            fprintf(out, "\n%*s", column, "");
            at = column;
        } else if (at > column) {
            fputc(' ', out);
            at++;
        }
        fwrite(text, 1, (size_t)word, out);
        at += word;
        text += word;
        text += *text == ' ';
    }
    fputc('\n', out);
}

static void option_line(FILE *out, int o)
{
    char text[80];
    option_text(o, text, sizeof text);
    fprintf(out, "  %-24s ", text);
    wrapped(out, admin_options[o].help, 27);
}

static void verb_help(FILE *out, const struct verb *v)
{
    fprintf(out, "Usage: kvnode %s [OPTION]...%s%s\n%c%s.\n", v->name, v->args[0] != '\0' ? " " : "", v->args,
            v->help[0] >= 'a' && v->help[0] <= 'z' ? v->help[0] - 'a' + 'A' : v->help[0], v->help + 1);
    if (v->note != NULL) {
        fputc('\n', out);
        wrapped(out, v->note, 0);
    }
    fputc('\n', out);
    for (int o = 0; o < OPT_COUNT; o++)
        if (has(v, o) || (global(o) && !(o == OPT_VERSION && has(v, OPT_AT_VERSION))))
            option_line(out, o);
}

static const char exits[] =
    "Exit: 0 ok, 1 failed, 2 usage, 3 no such key, 4 unavailable (nothing written), 5 version conflict,\n"
    "      6 refused, 7 outcome unknown\n";

void admin_help(FILE *out, const struct verb *verb)
{
    const char *group = "";
    if (verb != NULL) {
        verb_help(out, verb);
        return;
    }
    fputs("Usage: kvnode [OPTION]... COMMAND [ARG]...\n", out);
    for (size_t i = 0; i < admin_n_verbs; i++) {
        const struct verb *v = &admin_verbs[i];
        char line[160];
        if (v->group == NULL)
            continue;
        if (strcmp(group, v->group) != 0)
            fprintf(out, "\n%s:\n", v->group);
        group = v->group;
        int n = snprintf(line, sizeof line, "%s %s", v->name, v->args);
        if (n > 24)
            fprintf(out, "  %s\n  %-24s %s\n", line, "", v->help);
        else
            fprintf(out, "  %-24s %s\n", line, v->help);
    }
    fputs("\nOptions (kvnode COMMAND --help for a command's own):\n", out);
    for (int o = 0; o < OPT_COUNT; o++)
        if (global(o) || o <= OPT_JSON)
            option_line(out, o);
    fprintf(out, "\n%s", exits);
}

/* scdoc gives _ and * a meaning. */
static void man_text(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (strchr("_*\\#", *text) != NULL)
            fputc('\\', out);
        fputc(*text, out);
    }
}

static void man_option(FILE *out, int o)
{
    const struct admin_option *d = &admin_options[o];
    if (d->letter != 0)
        fprintf(out, "*-%c*, ", d->letter);
    fprintf(out, "*--%s*", d->name);
    if (d->arg != NULL) {
        fputs(" _", out);
        for (const char *p = d->arg; *p != '\0'; p++)
            fputc(*p, out);
        fputc('_', out);
    }
    fputs("\n\t", out);
    man_text(out, d->help);
    fputs("\n\n", out);
}

void admin_man(FILE *out)
{
    const char *group = "";
    fputs(
        "kvnode(1) \"kvfs " KVFS_VERSION "\" \"kvfs\"\n\n# NAME\n\n"
        "kvnode - a node of a replicated key-value store, and its command line\n\n"
        "# SYNOPSIS\n\n*kvnode* [_OPTION_]... _COMMAND_ [_ARG_]...\n\n"
        "# DESCRIPTION\n\n"
        "A directory that is the same on every machine, keeps working when one of them dies, and remembers "
        "every "
        "version of every file. A key a/b/c is the path /a/b/c of a mount (see *kvfs*(1)). Every command but "
        "init, run, config, doctor and dev talks to a running node through its socket: the one given with -n "
        "or "
        "$KVNODE\\_NODE, else the first one in the socket directory that serves; where their nodes belong to "
        "several clusters, one has to be named.\n\n",
        out);
    for (size_t i = 0; i < admin_n_verbs; i++) {
        const struct verb *v = &admin_verbs[i];
        if (v->group == NULL)
            continue;
        if (strcmp(group, v->group) != 0)
            fprintf(out, "# COMMANDS: %s\n\n", v->group);
        group = v->group;
        fprintf(out, "## kvnode %s ", v->name);
        man_text(out, v->args);
        fprintf(out, "\n\n%c", v->help[0] >= 'a' && v->help[0] <= 'z' ? v->help[0] - 'a' + 'A' : v->help[0]);
        man_text(out, v->help + 1);
        fputs(". ", out);
        if (v->note != NULL)
            man_text(out, v->note);
        fputs("\n\n", out);
        for (int o = OPT_JSON + 1; o < OPT_COUNT; o++)
            if (has(v, o))
                man_option(out, o);
    }
    fputs("# OPTIONS\n\n", out);
    for (int o = 0; o < OPT_COUNT; o++)
        if (global(o) || o <= OPT_JSON)
            man_option(out, o);
    fputs("# EXIT STATUS\n\n"
          "*0* ok, *1* failed, *2* usage, *3* no such key, *4* unavailable (nothing written), *5* version "
          "conflict, "
          "*6* refused, *7* outcome unknown.\n\n"
          "# FILES\n\n"
          "_/etc/kvnode/NAME.conf_, _/var/lib/kvnode/NAME_, _/run/kvnode/NAME.sock_; for a user the XDG "
          "folders. "
          "$STATE\\_DIRECTORY, $RUNTIME\\_DIRECTORY and $CREDENTIALS\\_DIRECTORY are honoured. A setting "
          "[raft] election\\_ms is overridden by $KVNODE\\_RAFT\\_ELECTION\\_MS and by -o "
          "raft.election\\_ms=N.\n\n"
          "# SEE ALSO\n\n*kvfs*(1)\n",
          out);
}

void admin_completion(FILE *out)
{
    fputs("# bash completion for kvnode; made by kvnode --completion\n"
          "_kvnode() {\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} verb='' word\n"
          "    for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
          "        case $word in -*) ;; *) verb=$word; break ;; esac\n"
          "    done\n"
          "    local words=''\n"
          "    case $verb in\n",
          out);
    fputs("    '') words='", out);
    for (size_t i = 0; i < admin_n_verbs; i++)
        if (admin_verbs[i].group != NULL)
            fprintf(out, "%s ", admin_verbs[i].name);
    fputs("--help --version' ;;\n", out);
    for (size_t i = 0; i < admin_n_verbs; i++) {
        const struct verb *v = &admin_verbs[i];
        if (v->group == NULL)
            continue;
        fprintf(out, "    %s) words='", v->name);
        for (int o = 0; o < OPT_COUNT; o++)
            if (has(v, o) || global(o))
                fprintf(out, "--%s ", admin_options[o].name);
        if (strcmp(v->name, "dev") == 0)
            fputs("up down kill start pause resume status leader follower all", out);
        fputs("' ;;\n", out);
    }
    fputs("    esac\n"
          "    # shellcheck disable=SC2207\n"
          "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
          "}\n"
          "complete -o default -F _kvnode kvnode\n",
          out);
}
