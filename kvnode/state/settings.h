/* Cluster settings: replicated, changed by COMMAND_SETTING, part of the state.
 * Only those that were set are rows; "default" takes a row away.
 *
 *   value_limit      longest value, bytes: 1 B to 1 GiB
 *   max_keys         names of files, directories and links together
 *   max_bytes        logical bytes of current values
 *   session_timeout  silence after which a session ends, in the cluster's elapsed time: 10 s to 30 d
 *   max_dead_names   deleted names whose history is kept; those deleted first lose theirs
 *   no_history       patterns of names that keep no history, separated by spaces
 *   lease            0: no node holds a read lease, each read asks a majority; 1 (from level 2 on)
 *   feature_level    what all nodes understand; it rises only, see sync/wire/feature.h
 *
 * Sizes take KiB, MiB, GiB, TiB; times s, min, h, d.
 *
 * Patterns: * any run, ? any byte, [a-z] [!a-z] sets, XXXXXX six characters as
 * mkstemp(3) makes them (letters and digits of at least two kinds, and not just a
 * capitalised word). DIR/PATTERN counts only below a directory called DIR. */
#ifndef KVFS_KVNODE_STATE_SETTINGS_H
#define KVFS_KVNODE_STATE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum setting {
    SETTING_VALUE_LIMIT,
    SETTING_MAX_KEYS,
    SETTING_MAX_BYTES,
    SETTING_SESSION_TIMEOUT, /* ms */
    SETTING_MAX_DEAD_NAMES,
    SETTING_NO_HISTORY,
    SETTING_LEASE,
    SETTING_FEATURE_LEVEL, /* rises only: check_level() */
    SETTING_COUNT
};

#define SETTING_TEXT_MAX 4096

struct settings {
    uint64_t number[SETTING_COUNT];
    char *text[SETTING_COUNT]; /* owned; as it was set; NULL: the default */
};

void settings_init(struct settings *st);
void settings_deinit(struct settings *st);
const char *setting_name(enum setting i);
const char *setting_default(enum setting i);
/* Below this feature level there is no such setting. */
unsigned setting_level(enum setting i);
const char *settings_text(const struct settings *st, enum setting i);
/* SETTING_COUNT: no such setting. */
enum setting setting_find(const void *name, size_t len);
/* False: no value for it. Not for SETTING_NO_HISTORY. */
bool setting_number(enum setting i, const void *text, size_t len, uint64_t *number_out);
/* 0, KV_E_INVAL (the setting stays as it was), -ENOMEM. */
int settings_set(struct settings *st, enum setting i, const void *value, size_t len);

/* Walks the patterns: the next one after *at, without its DIR. False: no more. */
struct name_pattern {
    const char *below; /* NULL: anywhere */
    size_t below_len;
    const char *glob;
    size_t glob_len;
};
bool settings_next_pattern(const struct settings *st, size_t *at, struct name_pattern *pattern_out);
bool glob_match(const char *glob, size_t glob_len, const uint8_t *name, size_t name_len);

#endif
