/* Two nodes on one machine, as far as a link sees them: a directory with keys, a
 * private sshd, and a server behind the peer socket. */
#ifndef KVFS_TESTS_UNIT_SSH_FIXTURE_H
#define KVFS_TESTS_UNIT_SSH_FIXTURE_H

#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "sync/ssh/handover.h"
#include "sync/ssh/link.h"
#include "sync/ssh/sshd.h"

#define WAIT_MS 30000 /* on conditions; generous for sanitizers on busy machines */

enum node_mode { NODE_ECHO, NODE_SOURCE, NODE_CLOSE };

/* The dialled node: takes what the bridges hand over, then does what mode says.
 * SIGPIPE is ignored. */
struct test_node {
    pthread_t thread;
    int listen_fd, wake_fd; /* owned */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under lock */
    enum node_mode mode;
    bool stop, drop;                  /* drop: close the connections there are */
    unsigned n_accepted, n_ended;     /* streams handed over; those that read end of file */
    uint64_t n_read, n_written;       /* bytes */
    pid_t bridge;                     /* the process that handed the last one over */
    char peer[SSH_PEER_NAME_MAX + 1]; /* of the last one */
};

struct fixture {
    char dir[PATH_MAX / 4];
    char client_key[PATH_MAX / 2], host_key[PATH_MAX / 2], other_key[PATH_MAX / 2];
    char authorized_keys[PATH_MAX / 2], known_hosts[PATH_MAX / 2], socket[PATH_MAX / 2];
    char bridge[PATH_MAX];
    uint16_t port;
    struct sshd *sshd; /* owned */
    struct test_node node;

    /* What the link reported. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int fds[64]; /* connected, not yet taken */
    unsigned n_connected, n_taken, n_failed;
    unsigned n_failures[SSH_FAILURE_COUNT];
    char message[800]; /* of the last failure */
    char messages[SSH_FAILURE_COUNT][800];
};

/* Keys, files, node and a running sshd. extra: lines for its configuration. */
struct fixture *fixture_new(const char *extra);
void fixture_free(struct fixture *f);

void fixture_authorize(struct fixture *f, const char *key_path); /* as peer n1 */
void fixture_pin(struct fixture *f, const char *key_path);       /* NULL: nothing pinned */
void fixture_start_sshd(struct fixture *f);
/* Kills the listening process (sshd's own) and waits for it. */
void fixture_kill_sshd(struct fixture *f);
/* Kills the processes of live connections; returns how many. */
unsigned fixture_kill_sessions(struct fixture *f);

struct ssh_link_config fixture_link_config(const struct fixture *f);
struct ssh_link *fixture_link(struct fixture *f);
struct ssh_link *fixture_link_with(struct fixture *f, const struct ssh_link_config *config);
/* The next connection's descriptor, the caller's now. */
int fixture_expect_connected(struct fixture *f);
/* Waits for the n-th failure of that kind, and gives its last message. */
const char *fixture_expect_failure(struct fixture *f, enum ssh_failure failure, unsigned n);

void node_start(struct test_node *n, const char *path);
void node_stop(struct test_node *n);
void node_set_mode(struct test_node *n, enum node_mode mode);
void node_drop(struct test_node *n);
/* Kills the process that handed over the last stream. */
void node_kill_bridge(struct test_node *n);
void node_expect_accepted(struct test_node *n, unsigned count);
void node_expect_ended(struct test_node *n, unsigned count);
uint64_t node_read(struct test_node *n);
uint64_t node_written(struct test_node *n);

/* A port that nothing listens on at this moment. */
uint16_t free_port(void);
/* Whole transfers on a non-blocking descriptor, within WAIT_MS. */
void write_all(int fd, const void *data, size_t len);
void read_exactly(int fd, void *data, size_t len);
/* Bytes read until end of file (or reset), dropped. */
size_t read_to_end(int fd);

#endif
