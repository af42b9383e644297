/* The command line of kvfs and of mount.kvfs. */
#ifndef KVFS_KVFS_OPTIONS_H
#define KVFS_KVFS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <fuse_opt.h>

#define OPTIONS_NODES_MAX 16

enum versions_mode { VERSIONS_HIDDEN, VERSIONS_VISIBLE, VERSIONS_OFF };

struct options {
    char *nodes[OPTIONS_NODES_MAX]; /* owned; names or socket paths, the preferred one first */
    unsigned n_nodes;
    char *mountpoint; /* owned; absolute */
    char *prefix;     /* owned; NULL: the root */
    char *log_path;   /* owned; NULL: syslog, or stderr in the foreground */
    unsigned timeout_ms, commit_ms;
    enum versions_mode versions;
    bool read_local;
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
