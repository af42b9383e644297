/* The settings: one table with where each lives in struct config, how its text
 * is read, its bounds and its default. Private to kvnode/config/config*.c. */
#ifndef KVFS_KVNODE_CONFIG_CONFIG_VALUE_H
#define KVFS_KVNODE_CONFIG_CONFIG_VALUE_H

#include "kvnode/config/config.h"

enum setting_kind {
    KIND_NAME,
    KIND_U16,
    KIND_U32,
    KIND_U64,
    KIND_PATH,
    KIND_MODE,
    KIND_TEXT,
    KIND_LEVEL,
    KIND_HEX,
    KIND_ADDRESS,
    KIND_SSHD,
    KIND_HTTP,
    KIND_HOSTS,
    KIND_FILE, /* an absolute path, or none */
    KIND_YES,
};

struct setting {
    const char *section, *name;
    enum setting_kind kind;
    size_t offset; /* in struct config */
    uint64_t min, max;
    const char *fallback; /* NULL: made of other settings, or required */
};

extern const struct setting config_settings[];
extern const size_t config_n_settings;

struct config_source {
    char *value;  /* owned; as given */
    char *source; /* owned; NULL: not set */
};

/* NULL: no such setting. */
const struct setting *config_find_setting(const char *section, const char *name);
/* The source of a setting's value so far, or NULL. */
const char *config_source_of(const struct config *c, const struct setting *s);
/* Converts and stores; an earlier value is replaced. 0; -ENOMEM; -EINVAL with a
 * clause in why. */
int config_set_value(struct config *c, const struct setting *s, const char *value, const char *source,
                     char *why, size_t size);
/* "name, id, data": the names of a section. */
void config_list_names(const char *section, char *out, size_t size);
/* A decimal number with an optional KiB, MiB or GiB, within bounds. */
bool config_read_number(const char *text, uint64_t min, uint64_t max, uint64_t *out);
/* Replaces an owned string. 0 or -ENOMEM. */
int config_set_string(char **field, const char *value);

/* config_paths.c: the first directory of a systemd variable in out, or NULL. */
const char *config_system_dir(const char *variable, char *out, size_t size);

/* config_peer.c. All return 0, -ENOMEM, or -EINVAL with a clause in why. */
/* A section's title: appends a peer. */
int config_peer_begin(struct config *c, const char *name, unsigned line, char *why, size_t size);
int config_peer_set(struct config_peer *p, const char *name, const char *value, char *why, size_t size);
/* After the last line: all is given, nothing twice; sorts. why: with file and line. */
int config_peers_finish(struct config *c, char *why, size_t size);
void config_peer_deinit(struct config_peer *p);

#endif
