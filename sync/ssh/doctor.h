/* Checks of what peer links need from the machine, for `kvnode doctor`.
 *
 * Each check calls report once or more. They block for at most a few seconds
 * (the port check: 2 s). Any thread. */
#ifndef KVFS_SYNC_SSH_DOCTOR_H
#define KVFS_SYNC_SSH_DOCTOR_H

#include <stdint.h>

enum ssh_check { SSH_CHECK_PASS, SSH_CHECK_WARN, SSH_CHECK_FAIL };

/* name: "sshd program", stable. detail: what was found. mend: what to do, ""
 * with PASS. All borrowed for the call. */
typedef void ssh_check_report(void *arg, enum ssh_check result, const char *name, const char *detail,
                              const char *mend);

struct ssh_check_config {     /* NULL or 0 skips the checks that need it */
    const char *sshd_program; /* NULL: searched for as sshd_new does */
    const char *client_key_path;
    const char *host_key_path;
    const char *authorized_keys_path;
    const char *known_hosts_path;
    const char *bridge_path; /* the kvnode program named in authorized_keys */
    const char *socket_path; /* the peer socket */
    const char *host;        /* a peer's sshd */
    uint16_t port;
};

void ssh_check_programs(const struct ssh_check_config *c, ssh_check_report *report, void *arg);
/* The account's passwd entry, its shell, its home, /etc/nologin. */
void ssh_check_account(const struct ssh_check_config *c, ssh_check_report *report, void *arg);
/* Modes and owners of the keys and of their directories; forms of the files. */
void ssh_check_files(const struct ssh_check_config *c, ssh_check_report *report, void *arg);
/* Something that speaks SSH answers at host and port. */
void ssh_check_port(const struct ssh_check_config *c, ssh_check_report *report, void *arg);

/* All of the above. */
void ssh_check_environment(const struct ssh_check_config *c, ssh_check_report *report, void *arg);

#endif
