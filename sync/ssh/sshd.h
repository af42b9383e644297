/* A node's private sshd: a child process with a configuration of its own.
 *
 * It runs as the node's user (root is not needed), on a port of its own, with a
 * host key and an authorized_keys file of its own, and allows nothing but forced
 * commands. It dies with the node (PR_SET_PDEATHSIG); the sshd processes of live
 * connections end when their streams end, which the node's death causes.
 *
 * One thread (the one that lives as long as the process: the death signal hangs
 * on the thread that started the child). Nothing here waits longer than stated. */
#ifndef KVFS_SYNC_SSH_SSHD_H
#define KVFS_SYNC_SSH_SSHD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct sshd_config {            /* strings are copied by sshd_new */
    const char *program;        /* NULL: found in /usr/sbin, /usr/local/sbin, /sbin, $PATH */
    const char *run_dir;        /* exists, 0700: sshd_config, sshd.pid and sshd.log go there */
    const char *listen_address; /* NULL: 127.0.0.1 */
    uint16_t port;
    const char *host_key_path;        /* identity_ensure() */
    const char *authorized_keys_path; /* identity_write_authorized_keys(); may appear later */
    const char *log_level;            /* NULL: INFO */
    const char *extra;                /* NULL, or lines put before all others (the first one wins): tests */
};

struct sshd;

/* Checks the arguments; starts nothing. 0; -EINVAL (message_out says why);
 * -ENOENT: no sshd program; -ENOMEM. */
int sshd_new(const struct sshd_config *config, struct sshd **sshd_out, char *message_out,
             size_t message_size);
/* Stops it as sshd_stop does. NULL is ignored. */
void sshd_free(struct sshd *s);

/* Writes the configuration, has `sshd -t` check it (at most 5 s, once per
 * object), looks whether the port is free and starts the child, which listens
 * some milliseconds later. Standard error is appended to run_dir/sshd.log.
 * As root creates /run/sshd if it is missing (privilege separation).
 * 0; -EADDRINUSE, -EACCES, -EADDRNOTAVAIL: the port cannot be had; -EINVAL: sshd
 * refuses the configuration; -EPERM: authorized_keys lies in a directory that
 * others may write to; another negative errno; always with one line for a person
 * in message_out. -EALREADY: it runs. */
int sshd_start(struct sshd *s, char *message_out, size_t message_size);

/* 0 when it does not run. */
pid_t sshd_pid(const struct sshd *s);

/* For the SIGCHLD handler of the owner's loop: tell every reaped child. True:
 * it was this sshd; call sshd_start again in *retry_ms_out (500 ms, doubled up
 * to 10 s while it dies within 10 s of its start). message_out: how it ended
 * and the last line of its log. */
bool sshd_reaped(struct sshd *s, pid_t pid, int status, uint32_t *retry_ms_out, char *message_out,
                 size_t message_size);
/* The same for an owner without SIGCHLD handling: waitpid(WNOHANG) on this
 * child alone. */
bool sshd_poll(struct sshd *s, uint32_t *retry_ms_out, char *message_out, size_t message_size);

/* Ends the listening process and reaps it: SIGTERM, after 2 s SIGKILL. Live
 * connections stay until their streams end. */
void sshd_stop(struct sshd *s);

/* The configuration text, for `kvnode` to show and for tests. Appends to b. */
struct buffer;
void sshd_config_text(const struct sshd *s, struct buffer *b);

#endif
