/* A node's configuration: one file, KVNODE_* variables and -o flags.
 *
 * Each setting has one value and one source: flag > variable > file > default.
 * The variable of [raft] election_ms is KVNODE_RAFT_ELECTION_MS, its flag
 * -o raft.election_ms=N. The file is read strictly: a line over 190 bytes (inih
 * cuts at 200 without a word), an unknown section or name, a second value for
 * a name or a value out of bounds is an error "FILE:LINE: what; what is
 * allowed". No program ever rewrites the file.
 *
 * Everything here blocks on files only. Immutable after config_load(), so any
 * thread may read it. */
#ifndef KVFS_KVNODE_CONFIG_CONFIG_H
#define KVFS_KVNODE_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "sync/base/log.h"

#define CONFIG_LINE_MAX 190
#define CONFIG_NAME_MAX 32 /* of a node */
#define CONFIG_PEERS_MAX 32
#define CONFIG_SOCKET_PATH_MAX 107 /* sun_path without its NUL */

struct config_peer { /* strings are owned by the config */
    char *name;      /* from the section's title */
    uint16_t id;
    char *host; /* name, IPv4 or IPv6 address, without brackets */
    uint16_t port;
    char *user;     /* account at the peer; default: our own account's name */
    char *host_key; /* "ssh-ed25519 AAAA…", without a comment */
    char *key;      /* the peer's client key, same form */
    unsigned line;  /* of its section's title */
};

struct config { /* strings are owned, and never NULL unless said */
    char *file; /* where it was read; NULL: no file */

    /* [node] */
    char *name; /* 1 to 32 of A-Z a-z 0-9 . _ - */
    uint16_t id;
    char *data_dir;     /* absolute */
    char *socket;       /* absolute; at most CONFIG_SOCKET_PATH_MAX bytes */
    mode_t socket_mode; /* 0600 */
    char *socket_group; /* "": the process's */
    enum log_level log_level;

    /* [cluster] */
    uint64_t cluster_id; /* not 0 */

    /* [ssh] */
    char *listen_host; /* 127.0.0.1 */
    uint16_t listen_port;
    bool private_sshd; /* false: the operator's own sshd takes the peers' logins */
    char *ssh_user;    /* account under which peers log in here */

    /* [raft] */
    uint32_t election_ms, heartbeat_ms;

    /* [storage] */
    uint32_t flush_ms, flush_commands;
    uint64_t log_keep_entries, log_keep_bytes;
    uint32_t scrub_interval_s; /* 0: only on request */
    uint64_t scrub_bytes_per_s;

    /* [http] */
    char *http_host; /* "": no HTTP */
    uint16_t http_port;
    char *http_token_file; /* "": no tokens */
    bool http_allow_plain; /* an address that is none of loopback */
    char *http_hosts;      /* further names that a Host header may have: "host[:port],…" */

    struct config_peer *peers; /* owned; sorted by id, without this node itself */
    size_t n_peers;

    /* Derived. */
    char *program;    /* absolute path of kvnode for forced commands: $KVNODE_PROGRAM or /proc/self/exe */
    char *run_dir;    /* $RUNTIME_DIRECTORY, else data_dir */
    char *ssh_dir;    /* data_dir/ssh: sshd's files */
    char *client_key; /* private key paths: $CREDENTIALS_DIRECTORY/client_key if it exists, else in ssh_dir */
    char *host_key;
    char *authorized_keys; /* in ssh_dir */
    char *known_hosts;
    char *http_socket; /* [node] socket, with .http in the place of .sock */
    char *founding;    /* data_dir/founding: the marker that `kvnode init` leaves */

    struct config_source *sources; /* private: one a setting */
};

/* Whether only this machine reaches that address, a number. */
bool config_is_loopback(const char *host);

/* What the command line says about the configuration; all borrowed. */
struct config_request {
    const char *file;         /* -c, or NULL: $KVNODE_CONFIG, else by name */
    const char *name;         /* -n, or NULL: $KVNODE_NODE, else the only NAME.conf there is */
    const char *const *flags; /* "raft.election_ms=500", … */
    size_t n_flags;
};

/* Finds, reads and checks. 0 with *config_out (free with config_free());
 * -ENOENT: no configuration file (message_out says where it was looked for);
 * -EINVAL: refused; -ENOMEM; the errno of reading. message_out: one line for a
 * person, without the program's name. */
int config_load(const struct config_request *request, struct config **config_out, char *message_out,
                size_t message_size);
void config_free(struct config *config); /* NULL is ignored */

/* The same from a text in memory, for init and tests; file is only the name in
 * messages. */
int config_parse(const char *text, size_t len, const char *file, const struct config_request *request,
                 struct config **config_out, char *message_out, size_t message_size);

/* Directory of NAME.conf files: $KVNODE_CONFIG_DIR, /etc/kvnode for root, $XDG_CONFIG_HOME/kvnode
 * else. 0 or -ENAMETOOLONG, -ENOENT (no home). */
int config_dir(char *path_out, size_t size);
/* Default data directory: $STATE_DIRECTORY, /var/lib/kvnode/NAME for root,
 * $XDG_STATE_HOME/kvnode/NAME else. */
int config_default_data(const char *name, char *path_out, size_t size);

/* Path of the socket to which the bridges connect: run_dir/peer.sock (with
 * $RUNTIME_DIRECTORY: NAME.peer.sock). 0, or -ENAMETOOLONG if it is over
 * CONFIG_SOCKET_PATH_MAX; config_load() has checked that. */
int config_peer_socket(const struct config *config, char path_out[static CONFIG_SOCKET_PATH_MAX + 1]);

/* NULL: none of that name (id). */
const struct config_peer *config_peer_by_name(const struct config *config, const char *name);
/* Whether a cluster can have so many nodes: 1, 3, 5 or 7. */
bool config_number_fits(size_t n);
const struct config_peer *config_peer_by_id(const struct config *config, uint16_t id);
/* The name of a member, this node's own too, by its id: "n2", or "-". Borrowed. */
const char *config_member_name(const struct config *config, uint64_t id);

/* Every setting with its value and source ("file:12", "default",
 * "KVNODE_RAFT_ELECTION_MS", "flag"), in the file's order; peers come after.
 * All borrowed for the call. */
typedef void config_emit(void *arg, const char *section, const char *name, const char *value,
                         const char *source);
void config_each(const struct config *config, void *arg, config_emit *emit);

/* Splits "host:port", "[v6]:port". 0 or -EINVAL. host_out: at least size bytes. */
int config_split_address(const char *text, char *host_out, size_t size, uint16_t *port_out);

#endif
