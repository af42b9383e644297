/* fuse_opt does the splitting; what it does not know it hands to libfuse, which
 * refuses unknown options, so that a misspelt one is never ignored. */
#include "kvfs/link/options.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "sync/wire/client.h"

#define RETRY_MS 60000

static const char usage_text[] =
    "Usage: kvfs [NODE[,NODE]...] MOUNTPOINT [OPTION]...\n"
    "Mounts the keys of a cluster as files. NODE is a node's name or the path of its socket,\n"
    "the preferred one first; without it, every node of this machine.\n"
    "\n"
    "  -f                     stay in the foreground, log to standard error\n"
    "  -d                     show every request of the kernel (implies -f)\n"
    "  -s                     one thread\n"
    "  -h, --help             this text\n"
    "  -V, --version          the version\n"
    "  -o ro                  read only\n"
    "  -o prefix=PATH         mount this directory of the key space\n"
    "  -o timeout=SECONDS     how long a request may wait for the cluster (5)\n"
    "  -o commit=SECONDS      publish what an open file has gathered after this time (5)\n"
    "  -o versions=MODE       hidden: .versions is there but not listed; visible; off (hidden)\n"
    "  -o read=MODE           strict: content, names and attributes are those of this moment;\n"
    "                         open: what is opened is, the others follow within milliseconds;\n"
    "                         local: whatever the node has (strict)\n"
    "  -o uid=N,gid=N,umask=M show this owner, take these mode bits away\n"
    "  -o allow_other         for all users; permissions are always checked\n"
    "  -o author=NAME         what is written here bears this name, beside the user's and the node's\n"
    "  -o log=PATH            log to this file (the system's log, through /dev/log)\n"
    "  -o retry=TIME          how long to wait for a node and a majority at the start: 90, 5m, 1h; 0:\n"
    "                         not at all (60; with bg: for ever)\n"
    "  -o bg                  wait in the background\n"
    "  -o remount             change ro, rw, noatime … of the mount that is there\n"
    "\n"
    "Unmount: fusermount3 -u MOUNTPOINT\n"
    "fstab:   n1 /srv/kv kvfs _netdev,nofail,bg,x-systemd.requires=kvnode@n1.service 0 0\n";

enum {
    KEY_HELP,
    KEY_VERSION,
    KEY_FOREGROUND,
    KEY_DEBUG,
    KEY_SINGLE,
    KEY_VERBOSE,
    KEY_DISCARD,
    KEY_BACKGROUND,
    KEY_REMOUNT,
    KEY_FUSE
};

/* What fuse_opt fills in. */
struct parsed {
    struct options *options;
    char *positional[2]; /* borrowed from argv */
    unsigned n_positional;
    bool mount_helper, failed, help, version;
    char *timeout, *commit, *versions, *read, *uid, *gid, *umask, *prefix, *log, *retry, *author; /* owned */
};

#define TEXT(name, field)                                                                                    \
    {                                                                                                        \
        name, offsetof(struct parsed, field), 0                                                              \
    }

/* FUSE_OPT_KEY() with its conversion spelt out. */
#define KEY(name, key)                                                                                       \
    {                                                                                                        \
        name, (unsigned long)-1U, key                                                                        \
    }

static const struct fuse_opt specs[] = {
    TEXT("timeout=%s", timeout),
    TEXT("commit=%s", commit),
    TEXT("versions=%s", versions),
    TEXT("read=%s", read),
    TEXT("uid=%s", uid),
    TEXT("gid=%s", gid),
    TEXT("umask=%s", umask),
    TEXT("prefix=%s", prefix),
    TEXT("log=%s", log),
    TEXT("author=%s", author),
    TEXT("retry=%s", retry),
    KEY("bg", KEY_BACKGROUND),
    KEY("fg", KEY_DISCARD),
    KEY("remount", KEY_REMOUNT),
    KEY("-h", KEY_HELP),
    KEY("--help", KEY_HELP),
    KEY("-V", KEY_VERSION),
    KEY("--version", KEY_VERSION),
    KEY("-f", KEY_FOREGROUND),
    KEY("-d", KEY_DEBUG),
    KEY("debug", KEY_DEBUG),
    KEY("-s", KEY_SINGLE),
    KEY("-v", KEY_VERBOSE),
    KEY("-n", KEY_DISCARD),
    KEY("_netdev", KEY_DISCARD),
    KEY("nofail", KEY_DISCARD),
    KEY("user", KEY_DISCARD),
    KEY("users", KEY_DISCARD),
    KEY("nouser", KEY_DISCARD),
    KEY("auto", KEY_DISCARD),
    KEY("noauto", KEY_DISCARD),
    KEY("defaults", KEY_DISCARD),
    KEY("user=", KEY_DISCARD),
    KEY("owner", KEY_DISCARD),
    KEY("group", KEY_DISCARD),
    KEY("comment=", KEY_DISCARD),
    KEY("default_permissions", KEY_DISCARD), /* always on */
    FUSE_OPT_END,
};

/* Words of mount(8) that mean the same for every file system. What libfuse knows it
 * sets; the others ask for what a mount of kvfs does anyway (times of access are
 * never set by reading) or for nothing that it could do. */
static const struct {
    const char *name;
    unsigned long on, off;
    bool fuse; /* libfuse knows it */
} generic[] = {
    {"ro", MS_RDONLY, 0, true},
    {"rw", 0, MS_RDONLY, true},
    {"nosuid", MS_NOSUID, 0, true},
    {"suid", 0, MS_NOSUID, true},
    {"nodev", MS_NODEV, 0, true},
    {"dev", 0, MS_NODEV, true},
    {"noexec", MS_NOEXEC, 0, true},
    {"exec", 0, MS_NOEXEC, true},
    {"noatime", MS_NOATIME, 0, true},
    {"atime", 0, MS_NOATIME, true},
    {"sync", MS_SYNCHRONOUS, 0, true},
    {"async", 0, MS_SYNCHRONOUS, true},
    {"dirsync", MS_DIRSYNC, 0, true},
    {"relatime", 0, 0, false},
    {"norelatime", 0, 0, false},
    {"strictatime", 0, 0, false},
    {"nostrictatime", 0, 0, false},
    {"diratime", 0, 0, false},
    {"nodiratime", 0, 0, false},
    {"lazytime", 0, 0, false},
    {"nolazytime", 0, 0, false},
    {"iversion", 0, 0, false},
    {"noiversion", 0, 0, false},
    {"silent", 0, 0, false},
    {"loud", 0, 0, false},
};

/* 1: libfuse shall have it; 0: it is done with. */
static int take_generic(struct options *o, const char *word)
{
    size_t i;

    /* Of mount(8)'s own kind: x-systemd.requires=…, X-mount.mkdir. */
    if (strncmp(word, "x-", 2) == 0 || strncmp(word, "X-", 2) == 0)
        return 0;
    for (i = 0; i < sizeof generic / sizeof generic[0]; i++) {
        if (strcmp(word, generic[i].name) != 0)
            continue;
        o->mount_flags = (o->mount_flags & ~generic[i].off) | generic[i].on;
        o->mount_flags_off = (o->mount_flags_off & ~generic[i].on) | generic[i].off;
        return generic[i].fuse;
    }
    return 1;
}

static int on_option(void *data, const char *arg, int key, struct fuse_args *rest)
{
    struct parsed *p = data;
    struct options *o = p->options;

    switch (key) {
    case FUSE_OPT_KEY_NONOPT:
        if (p->n_positional == 2) {
            fprintf(stderr, "kvfs: one argument too many: %s\n", arg);
            p->failed = true;
            return -1;
        }
        p->positional[p->n_positional] = strdup(arg);
        if (p->positional[p->n_positional++] == NULL)
            return -1;
        return 0;
    case KEY_HELP:
        p->help = true;
        return 0;
    case KEY_VERSION:
        p->version = true;
        return 0;
    case KEY_FOREGROUND:
        o->foreground = true;
        return 0;
    case KEY_DEBUG:
        o->foreground = o->debug = true;
        return 0;
    case KEY_SINGLE:
        /* mount(8) passes -s for "sloppy". */
        o->single = !p->mount_helper;
        return 0;
    case KEY_VERBOSE:
        o->verbose = true;
        return 0;
    case KEY_BACKGROUND:
        o->background = true;
        return 0;
    case KEY_REMOUNT:
        o->remount = true;
        return 0;
    case KEY_DISCARD:
        return 0;
    default:
        return take_generic(o, arg);
    }
}

/* Seconds with an optional fraction, as milliseconds. */
static bool parse_seconds(const char *name, const char *text, unsigned *ms_out)
{
    char *end;
    double seconds;

    if (text == NULL)
        return true;
    errno = 0;
    seconds = strtod(text, &end);
    if (errno != 0 || end == text || *end != '\0' || !(seconds >= 0.1) || seconds > 3600) {
        fprintf(stderr, "kvfs: %s=%s: a number of seconds from 0.1 to 3600 was expected\n", name, text);
        return false;
    }
    *ms_out = (unsigned)(seconds * 1000);
    return true;
}

/* 90, 90s, 5m, 2h. */
static bool parse_retry(const char *text, bool background, uint64_t *ms_out)
{
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"", 1000}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
    char *end;
    unsigned long v;
    size_t i;

    *ms_out = background ? OPTIONS_FOREVER : RETRY_MS;
    if (text == NULL)
        return true;
    errno = 0;
    v = strtoul(text, &end, 10);
    for (i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (errno == 0 && end != text && text[0] >= '0' && text[0] <= '9' && v <= 1000000 &&
            strcmp(end, units[i].name) == 0) {
            *ms_out = v * units[i].ms;
            return true;
        }
    }
    fprintf(stderr, "kvfs: retry=%s: a time was expected, such as 90, 5m or 1h\n", text);
    return false;
}

/* path, or what it means from the present directory; consumed. NULL: out of memory. */
static char *absolute(char *path)
{
    char directory[PATH_MAX], *result = NULL;

    if (path == NULL || path[0] == '/')
        return path;
    if (getcwd(directory, sizeof directory) == NULL ||
        asprintf(&result, "%s/%s", strcmp(directory, "/") == 0 ? "" : directory, path) < 0)
        result = NULL;
    free(path);
    return result;
}

static bool parse_number(const char *name, const char *text, int base, uint32_t max, uint32_t *out)
{
    char *end;
    unsigned long v;

    errno = 0;
    v = strtoul(text, &end, base);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || v > max) {
        fprintf(stderr, "kvfs: %s=%s: not a valid number\n", name, text);
        return false;
    }
    *out = (uint32_t)v;
    return true;
}

static bool parse_values(struct parsed *p)
{
    struct options *o = p->options;
    uint32_t mask = 0;

    if (!parse_retry(p->retry, o->background, &o->retry_ms) ||
        !parse_seconds("timeout", p->timeout, &o->timeout_ms) ||
        !parse_seconds("commit", p->commit, &o->commit_ms))
        return false;
    if (p->versions != NULL) {
        if (strcmp(p->versions, "hidden") == 0) {
            o->versions = VERSIONS_HIDDEN;
        } else if (strcmp(p->versions, "visible") == 0) {
            o->versions = VERSIONS_VISIBLE;
        } else if (strcmp(p->versions, "off") == 0) {
            o->versions = VERSIONS_OFF;
        } else {
            fprintf(stderr, "kvfs: versions=%s: hidden, visible or off was expected\n", p->versions);
            return false;
        }
    }
    if (p->read != NULL) {
        o->read_local = strcmp(p->read, "local") == 0;
        o->read_strict = strcmp(p->read, "strict") == 0 || strcmp(p->read, "linearizable") == 0;
        if (!o->read_local && !o->read_strict && strcmp(p->read, "open") != 0) {
            fprintf(stderr, "kvfs: read=%s: strict, open or local was expected\n", p->read);
            return false;
        }
    }
    o->has_uid = p->uid != NULL;
    o->has_gid = p->gid != NULL;
    if ((o->has_uid && !parse_number("uid", p->uid, 10, UINT32_MAX - 1, &o->uid)) ||
        (o->has_gid && !parse_number("gid", p->gid, 10, UINT32_MAX - 1, &o->gid)) ||
        (p->umask != NULL && !parse_number("umask", p->umask, 8, 0777, &mask)))
        return false;
    o->umask = (mode_t)mask;
    if (p->author != NULL && !command_label_check(p->author, strlen(p->author))) {
        fprintf(
            stderr,
            "kvfs: author=: a name of up to %d bytes was expected: UTF-8 that can be seen, no space, no @\n",
            COMMAND_LABEL_MAX);
        return false;
    }
    o->author = p->author;
    o->prefix = p->prefix;
    /* The daemon's directory is another. */
    o->log_path = absolute(p->log);
    if (p->log != NULL && o->log_path == NULL) {
        fprintf(stderr, "kvfs: log=: %s\n", strerror(errno));
        p->log = p->author = NULL;
        return false;
    }
    p->prefix = p->log = p->author = NULL; /* consumed */
    return true;
}

static bool add_node(struct options *o, const char *name, size_t len)
{
    if (len == 0)
        return true;
    if (o->n_nodes == OPTIONS_NODES_MAX) {
        fprintf(stderr, "kvfs: more than %d nodes\n", OPTIONS_NODES_MAX);
        return false;
    }
    o->nodes[o->n_nodes] = strndup(name, len);
    if (o->nodes[o->n_nodes] != NULL && strchr(o->nodes[o->n_nodes], '/') != NULL)
        o->nodes[o->n_nodes] = absolute(o->nodes[o->n_nodes]);
    return o->nodes[o->n_nodes++] != NULL;
}

static bool split_nodes(struct options *o, const char *list)
{
    while (*list != '\0') {
        size_t len = strcspn(list, ",");

        if (!add_node(o, list, len))
            return false;
        list += len;
        list += *list == ',';
    }
    if (o->n_nodes == 0)
        fprintf(stderr, "kvfs: the list of nodes is empty\n");
    return o->n_nodes > 0;
}

static int is_socket_name(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);

    return len > 5 && strcmp(entry->d_name + len - 5, ".sock") == 0;
}

/* Every node of this machine. */
static bool find_nodes(struct options *o)
{
    char directory[PATH_MAX], path[PATH_MAX + 256];
    struct dirent **entries = NULL;
    bool ok = true;
    int n, i;

    if (client_socket_dir(directory, sizeof directory) != 0)
        return false;
    n = scandir(directory, &entries, is_socket_name, alphasort);
    for (i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, entries[i]->d_name);
        ok = ok && (o->n_nodes == OPTIONS_NODES_MAX || add_node(o, path, strlen(path)));
        free(entries[i]);
    }
    free(entries);
    if (ok && o->n_nodes == 0) {
        fprintf(stderr, "kvfs: no node's socket in %s. Try: kvnode dev up, or name a node's socket\n",
                directory);
        return false;
    }
    return ok;
}

static bool called_as_mount_helper(const char *argv0)
{
    const char *slash = strrchr(argv0, '/');

    return strcmp(slash != NULL ? slash + 1 : argv0, "mount.kvfs") == 0;
}

static bool add_fuse_options(struct options *o)
{
    const char *name = o->n_nodes > 0 ? o->nodes[0] : "kvfs";
    char text[PATH_MAX];

    /* The source that mount(8) and df(1) show. A comma would end the option. */
    snprintf(text, sizeof text, "-ofsname=%s,subtype=kvfs,default_permissions",
             strchr(name, ',') == NULL ? name : "kvfs");
    return fuse_opt_add_arg(&o->fuse, text) == 0 && (!o->debug || fuse_opt_add_arg(&o->fuse, "-d") == 0);
}

static enum options_result finish(struct parsed *p)
{
    struct options *o = p->options;

    if (p->help) {
        fputs(usage_text, stdout);
        return OPTIONS_DONE;
    }
    if (p->version) {
        printf("kvfs %s\n", KVFS_VERSION);
        return OPTIONS_DONE;
    }
    if (p->n_positional == 0) {
        fprintf(stderr, "kvfs: no mountpoint. Try: kvfs --help\n");
        return OPTIONS_USAGE;
    }
    if (!parse_values(p))
        return OPTIONS_USAGE;
    if (p->n_positional == 2 ? !split_nodes(o, p->positional[0]) : !find_nodes(o))
        return OPTIONS_USAGE;
    o->mountpoint = strdup(p->positional[p->n_positional - 1]);
    if (o->mountpoint == NULL || !add_fuse_options(o))
        return OPTIONS_USAGE;
    return OPTIONS_RUN;
}

enum options_result options_parse(int argc, char **argv, struct options *out)
{
    struct parsed p = {.options = out};
    enum options_result result = OPTIONS_USAGE;
    struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
    unsigned i;

    *out = (struct options){.timeout_ms = 5000, .commit_ms = 5000, .read_strict = true};
    p.mount_helper = called_as_mount_helper(argv[0]);
    out->fuse = args;
    if (fuse_opt_parse(&out->fuse, &p, specs, on_option) == 0)
        result = finish(&p);
    for (i = 0; i < p.n_positional; i++)
        free(p.positional[i]);
    free(p.timeout);
    free(p.commit);
    free(p.versions);
    free(p.read);
    free(p.uid);
    free(p.gid);
    free(p.umask);
    free(p.prefix);
    free(p.log);
    free(p.retry);
    free(p.author);
    return result;
}

void options_free(struct options *o)
{
    unsigned i;

    for (i = 0; i < o->n_nodes; i++)
        free(o->nodes[i]);
    free(o->mountpoint);
    free(o->prefix);
    free(o->author);
    free(o->log_path);
    fuse_opt_free_args(&o->fuse);
    *o = (struct options){0};
}
