/* Reading a group's log back, trusting nothing: every row's checksum, chained,
 * no gap, and an end that is not before the floor. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sync/raft/log/log_db_private.h"

static int load_group(struct log_db *db, struct group *g, bool *exists_out, char *why)
{
    sqlite3_stmt *st = db->st[ST_GET_GROUP];
    const void *conf;
    uint64_t sum = 0;
    int rc, conf_len, result = 0;

    *exists_out = false;
    snapshot_meta_deinit(&g->snapshot);
    *g = (struct group){.number = g->number, .start_index = 1, .oldest = 1};
    sqlite3_bind_int64(st, 1, g->number);
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        *exists_out = g->stored = true;
        g->term = (uint64_t)sqlite3_column_int64(st, 0);
        g->vote = (uint64_t)sqlite3_column_int64(st, 1);
        g->start_index = (uint64_t)sqlite3_column_int64(st, 2);
        g->start_sum = (uint64_t)sqlite3_column_int64(st, 3);
        g->snapshot.index = (uint64_t)sqlite3_column_int64(st, 4);
        g->snapshot.term = (uint64_t)sqlite3_column_int64(st, 5);
        g->snapshot.conf_index = (uint64_t)sqlite3_column_int64(st, 6);
        conf = sqlite3_column_blob(st, 7);
        conf_len = sqlite3_column_bytes(st, 7);
        sum = (uint64_t)sqlite3_column_int64(st, 8);
        if (conf_len > 0) {
            g->snapshot.conf = entry_new(ENTRY_CHANGE, conf, (size_t)conf_len);
            if (g->snapshot.conf == NULL)
                result = -ENOMEM;
        }
    }
    sqlite3_reset(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return log_db_explain(db, log_db_translate(rc), why);
    if (result != 0)
        return log_db_explain(db, result, why);
    if (*exists_out && (sum != log_db_group_sum(g) || (g->snapshot.index != 0) != (g->snapshot.conf != NULL)))
        return log_db_damaged(db, why, "checksum of the group's row");
    g->last_index = g->start_index - 1;
    g->last_sum = g->start_sum;
    return 0;
}

/* The row under the cursor as the next entry. */
static int load_entry(struct log_db *db, struct group *g, struct log_store_log *l, size_t *cap, char *why)
{
    sqlite3_stmt *st = db->st[ST_RANGE];
    int64_t key = sqlite3_column_int64(st, 0);
    int type = sqlite3_column_int(st, 2), len;
    const void *data = sqlite3_column_blob(st, 4);
    char what[64];
    struct entry *e;

    len = sqlite3_column_bytes(st, 4);
    if (key != log_db_key(g->number, g->last_index + 1)) {
        snprintf(what, sizeof what, "entry %" PRIu64 " is missing", g->last_index + 1);
        return log_db_damaged(db, why, what);
    }
    e = len >= 0 && (uint32_t)len <= ENTRY_MAX_LEN ? entry_new_reserve((enum entry_type)type, (size_t)len)
                                                   : NULL;
    if (e == NULL)
        return len > (int)ENTRY_MAX_LEN ? log_db_damaged(db, why, "an entry's length")
                                        : log_db_explain(db, -ENOMEM, why);
    if (len > 0)
        memcpy(e->data, data, (size_t)len);
    e->term = (uint64_t)sqlite3_column_int64(st, 1);
    g->last_sum = log_db_entry_sum(g->last_sum, key, e);
    if (g->last_sum != (uint64_t)sqlite3_column_int64(st, 3) || type < ENTRY_COMMAND || type > ENTRY_CHANGE) {
        entry_put(e);
        snprintf(what, sizeof what, "checksum of entry %" PRIu64, g->last_index + 1);
        return log_db_damaged(db, why, what);
    }
    g->last_index++;
    if (l->n_entries == *cap) {
        size_t grown_cap = *cap > 0 ? *cap * 2 : 256;
        struct entry **grown = realloc(l->entries, grown_cap * sizeof(struct entry *));

        if (grown == NULL) {
            entry_put(e);
            return log_db_explain(db, -ENOMEM, why);
        }
        l->entries = grown;
        *cap = grown_cap;
    }
    l->entries[l->n_entries++] = e;
    return 0;
}

static int load_entries(struct log_db *db, struct group *g, struct log_store_log *l, char *why)
{
    sqlite3_stmt *st = db->st[ST_RANGE];
    uint64_t floor_index, floor_sum, sum_there = g->start_sum;
    size_t cap = 0;
    int rc, result;

    result = log_floor_get(&db->floor, g->number, &floor_index, &floor_sum);
    if (result != 0)
        return log_db_explain(db, result, why);
    sqlite3_bind_int64(st, 1, log_db_key(g->number, g->start_index));
    sqlite3_bind_int64(st, 2, log_db_key_end(g->number));
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && result == 0) {
        result = load_entry(db, g, l, &cap, why);
        if (g->last_index == floor_index)
            sum_there = g->last_sum;
    }
    sqlite3_reset(st);
    if (result != 0)
        return result;
    if (rc != SQLITE_DONE)
        return log_db_explain(db, log_db_translate(rc), why);
    g->floor = floor_index;
    if (floor_index > g->last_index)
        return log_db_damaged(db, why, "acknowledged entries at its end are lost");
    if (floor_index + 1 >= g->start_index && floor_index != 0 && sum_there != floor_sum)
        return log_db_damaged(db, why, "it is not the log that was acknowledged");
    return 0;
}

static int find_oldest(struct log_db *db, struct group *g, bool exists, char *why)
{
    sqlite3_stmt *st = db->st[ST_OLDEST];
    int rc;

    sqlite3_bind_int64(st, 1, log_db_key(g->number, 0));
    sqlite3_bind_int64(st, 2, log_db_key_end(g->number));
    rc = sqlite3_step(st);
    g->oldest = g->start_index;
    if (rc == SQLITE_ROW && sqlite3_column_type(st, 0) != SQLITE_NULL) {
        uint64_t oldest = (uint64_t)sqlite3_column_int64(st, 0) & ((UINT64_C(1) << 48) - 1);

        if (oldest < g->oldest)
            g->oldest = oldest;
        if (!exists) {
            sqlite3_reset(st);
            return log_db_damaged(db, why, "a group's row is missing");
        }
    }
    sqlite3_reset(st);
    return log_db_explain(db, log_db_translate(rc), why);
}

int log_db_load(struct log_db *db, uint16_t group, struct log_store_log *out, char *why)
{
    struct group *g = log_db_group(db, group);
    int result;

    memset(out, 0, sizeof *out);
    if (g == NULL) {
        snprintf(why, LOG_STORE_ERROR_LEN, "%s: more than %d groups", db->path, LOG_DB_MAX_GROUPS);
        return -ENOMEM;
    }
    result = load_group(db, g, &out->exists, why);
    if (result == 0)
        result = find_oldest(db, g, out->exists, why);
    if (result == 0)
        result = load_entries(db, g, out, why);
    if (result != 0) {
        log_store_log_deinit(out);
        return result;
    }
    out->term = g->term;
    out->vote = g->vote;
    out->start_index = g->start_index;
    snapshot_meta_copy(&g->snapshot, &out->snapshot);
    return 0;
}

void log_store_log_deinit(struct log_store_log *l)
{
    for (size_t i = 0; i < l->n_entries; i++)
        entry_put(l->entries[i]);
    free(l->entries);
    snapshot_meta_deinit(&l->snapshot);
    memset(l, 0, sizeof *l);
}
