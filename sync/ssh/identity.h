/* Keys and the two files that say whose they are.
 *
 * A node has two ed25519 keys, made by ssh-keygen: the client key, with which it
 * logs in at its peers, and the host key of its private sshd. authorized_keys
 * binds each peer's client key to one command and one name; known_hosts pins
 * each peer's host key to its address.
 *
 * Everything here blocks (files, ssh-keygen for at most 10 s): call it when
 * starting up or from a worker thread. Any thread. */
#ifndef KVFS_SYNC_SSH_IDENTITY_H
#define KVFS_SYNC_SSH_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "ssh-ed25519 AAAA…" of an ed25519 key is 80 characters. */
#define IDENTITY_PUBLIC_MAX 128
/* "SHA256:" and 43 characters. */
#define IDENTITY_FINGERPRINT_MAX 64

/* Makes sure that `path` (private, 0600) and `path`.pub exist in a directory of
 * mode 0700, which is created if missing (its parent must exist). An existing
 * pair is kept; a missing .pub is derived from the private key. comment: put at
 * the public key's end; no spaces or control characters.
 * message_out: on failure one line for a person.
 * 0; -EEXIST-like surprises are -EPERM: the file belongs to somebody else or is
 * open to others; -ENOENT: no ssh-keygen; -EINVAL: not an ed25519 key;
 * -ETIMEDOUT; another negative errno. */
int identity_ensure(const char *path, const char *comment, char *message_out, size_t message_size);

/* The public key of the private key file `path`, "ssh-ed25519 AAAA…", taken from
 * that file itself. 0, -EINVAL (not an ed25519 key in OpenSSH form without a
 * passphrase), or the negative errno of reading. */
int identity_read_public(const char *path, char public_out[static IDENTITY_PUBLIC_MAX]);

/* Whether text is "ssh-ed25519 BASE64" of the right size and form, with an
 * optional comment after it that is dropped; public_out may be NULL. */
bool identity_public_valid(const char *text, char public_out[IDENTITY_PUBLIC_MAX]);

/* "SHA256:…" as ssh-keygen -l prints it. 0 or -EINVAL. */
int identity_fingerprint(const char *public_key, char out[static IDENTITY_FINGERPRINT_MAX]);
/* The same of a key in its binary form (RFC 4253 §6.6). */
void identity_fingerprint_blob(const void *blob, size_t len, char out[static IDENTITY_FINGERPRINT_MAX]);

#define SSH_PEER_NAME_MAX 32
/* 1 to 32 characters of A-Z a-z 0-9 . _ -, not beginning with a dash or dot. */
bool identity_peer_name_valid(const char *name);

/* Whether a path can stand in an authorized_keys command: absolute, printable,
 * without quotes, backslashes, spaces, control characters or anything that a
 * shell reads: letters, digits and / . _ - + , : @ = only. */
bool identity_path_valid(const char *path);

struct identity_peer {       /* all borrowed */
    const char *name;        /* identity_peer_name_valid */
    const char *public_key;  /* its client key, identity_public_valid */
    const char *bridge_path; /* the kvnode program, identity_path_valid */
    const char *socket_path; /* this node's peer socket, identity_path_valid */
};

/* Replaces `path` atomically (mode 0600, fsynced) by one line a peer:
 *   restrict,command="exec BRIDGE bridge --peer NAME --socket SOCKET" KEY NAME
 * sshd reads the file at each login: a dropped peer cannot log in again (but its
 * live connection stays: close that too).
 * 0; -EINVAL: a name, key or path that is refused, -EEXIST: the same key or
 * name twice (nothing is written; message_out says which); another errno. */
int identity_write_authorized_keys(const char *path, const struct identity_peer *peers, size_t n_peers,
                                   char *message_out, size_t message_size);

struct identity_pin { /* all borrowed */
    const char *host; /* letters, digits, . - _ : (an IPv6 address without brackets) */
    uint16_t port;
    const char *public_key; /* the peer's host key */
};

/* Replaces `path` atomically (mode 0600, fsynced): "[host]:port ssh-ed25519 …",
 * the form that ssh(1) reads too. Errors as above. */
int identity_write_known_hosts(const char *path, const struct identity_pin *pins, size_t n_pins,
                               char *message_out, size_t message_size);

#endif
