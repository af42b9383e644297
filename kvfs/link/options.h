/* The command line of kvfs and of mount.kvfs. */
#ifndef KVFS_KVFS_LINK_OPTIONS_H
#define KVFS_KVFS_LINK_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <fuse_opt.h>

#define OPTIONS_NODES_MAX 16
#define OPTIONS_FOREVER UINT64_MAX

enum versions_mode { VERSIONS_HIDDEN, VERSIONS_VISIBLE, VERSIONS_OFF };

struct options {
    char *nodes[OPTIONS_NODES_MAX]; /* owned; names or absolute socket paths, the preferred one first */
    unsigned n_nodes;
    char *mountpoint; /* owned; as given until mountpoint_prepare() */
    char *prefix;     /* owned; NULL: the root */
    char *author;     /* owned; the label of what is written here; NULL: none */
    char *log_path;   /* owned; absolute; NULL: syslog, or stderr in the foreground */
    unsigned timeout_ms, commit_ms;
    uint64_t retry_ms; /* how long a node and a majority are waited for; OPTIONS_FOREVER */
    bool background;   /* while waiting, too */
    bool remount;      /* change the flags of the mount that is there */
    unsigned long mount_flags, mount_flags_off; /* MS_*, what the options ask for; for a remount */
    enum versions_mode versions;
    bool read_local, read_strict; /* neither: opens alone are barriers */
    bool foreground, debug, single, verbose;
    bool has_uid, has_gid;
    uint32_t uid, gid;
    mode_t umask;
    struct fuse_args fuse; /* owned; what libfuse gets */
};

enum options_result {
    OPTIONS_RUN,
    OPTIONS_DONE /* -h, -V: printed */,
    OPTIONS_USAGE /* an error was printed */
};

/* Parses argv. Called as mount.kvfs, takes what mount(8) passes: options first
 * or last, -v -n -s, and words that only mount(8) and fstab(5) need. Errors go
 * to stderr. out must be freed in every case. */
enum options_result options_parse(int argc, char **argv, struct options *out);
void options_free(struct options *o);

#endif
