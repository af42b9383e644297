#include <errno.h>
#include <string.h>

#include "sync/base/digest.h"
#include "sync/raft/log/log_db_private.h"

/* Pages of journal after which it is copied into the database: measured, see
 * DESIGN.md. More makes each pause longer, less makes more of them. */
#define CHECKPOINT_PAGES 1000

static int put_group(struct log_db *db, struct group *g)
{
    sqlite3_stmt *st = db->st[ST_PUT_GROUP];
    const struct entry *conf = g->snapshot.conf;
    int rc;

    sqlite3_bind_int64(st, 1, g->number);
    sqlite3_bind_int64(st, 2, (int64_t)g->term);
    sqlite3_bind_int64(st, 3, (int64_t)g->vote);
    sqlite3_bind_int64(st, 4, (int64_t)g->start_index);
    sqlite3_bind_int64(st, 5, (int64_t)g->start_sum);
    sqlite3_bind_int64(st, 6, (int64_t)g->snapshot.index);
    sqlite3_bind_int64(st, 7, (int64_t)g->snapshot.term);
    sqlite3_bind_int64(st, 8, (int64_t)g->snapshot.conf_index);
    /* A parameter that is not bound would be written as NULL; numbers cannot fail. */
    rc = sqlite3_bind_blob(st, 9, conf != NULL ? conf->data : NULL, conf != NULL ? (int)conf->len : 0,
                           SQLITE_STATIC);
    if (rc != SQLITE_OK)
        return log_db_translate(rc);
    sqlite3_bind_int64(st, 10, (int64_t)log_db_group_sum(g));
    g->stored = true;
    return log_db_run(db, ST_PUT_GROUP);
}

int log_db_begin(struct log_db *db)
{
    log_db_release_groups(db->before, db->n_before);
    db->n_before = db->n_groups;
    for (unsigned i = 0; i < db->n_groups; i++) {
        db->groups[i].appended = false;
        db->before[i] = db->groups[i];
        snapshot_meta_copy(&db->groups[i].snapshot, &db->before[i].snapshot);
    }
    return log_db_run(db, ST_BEGIN);
}

void log_db_rollback(struct log_db *db)
{
    if (sqlite3_get_autocommit(db->sql) == 0)
        log_db_run(db, ST_ROLLBACK);
    log_db_release_groups(db->groups, db->n_groups);
    memcpy(db->groups, db->before, db->n_before * sizeof db->groups[0]);
    db->n_groups = db->n_before;
    db->n_before = 0;
    /* The floor file may have been lowered; that is only less strict. */
    for (unsigned i = 0; i < db->n_groups; i++) {
        uint64_t sum;

        log_floor_get(&db->floor, db->groups[i].number, &db->groups[i].floor, &sum);
    }
}

int log_db_save_term(struct log_db *db, uint16_t group, uint64_t term, uint64_t vote)
{
    struct group *g = log_db_group(db, group);

    if (g == NULL)
        return -ENOMEM;
    g->term = term;
    g->vote = vote;
    return put_group(db, g);
}

static int sum_at(struct log_db *db, const struct group *g, uint64_t index, uint64_t *sum_out)
{
    sqlite3_stmt *st = db->st[ST_SUM];
    int rc;

    if (index + 1 == g->start_index) {
        *sum_out = g->start_sum;
        return 0;
    }
    if (index == g->last_index) {
        *sum_out = g->last_sum;
        return 0;
    }
    sqlite3_bind_int64(st, 1, log_db_key(g->number, index));
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        *sum_out = (uint64_t)sqlite3_column_int64(st, 0);
    sqlite3_reset(st);
    if (rc == SQLITE_DONE)
        return -EBADMSG;
    return log_db_translate(rc);
}

static int delete_range(struct log_db *db, const struct group *g, uint64_t from, uint64_t to)
{
    sqlite3_bind_int64(db->st[ST_DELETE], 1, log_db_key(g->number, from));
    sqlite3_bind_int64(db->st[ST_DELETE], 2, log_db_key(g->number, to));
    return log_db_run(db, ST_DELETE);
}

/* What the floor file promises must stay true of what a power cut leaves. */
static int lower_floor(struct log_db *db, struct group *g, uint64_t index, uint64_t sum)
{
    int result;

    if (g->floor <= index)
        return 0;
    result = log_floor_set(&db->floor, g->number, index, sum, true);
    if (result == 0)
        g->floor = index;
    return result;
}

static int truncate_from(struct log_db *db, struct group *g, uint64_t index)
{
    uint64_t sum;
    int result;

    if (index < g->start_index || index > g->last_index + 1)
        return -EBADMSG;
    result = sum_at(db, g, index - 1, &sum);
    if (result == 0)
        result = lower_floor(db, g, index - 1, sum);
    if (result == 0)
        result = delete_range(db, g, index, g->last_index + 1);
    if (result == 0) {
        g->last_index = index - 1;
        g->last_sum = sum;
    }
    return result;
}

int log_db_append(struct log_db *db, uint16_t group, uint64_t index, struct entry *const *entries, size_t n)
{
    struct group *g = log_db_group(db, group);
    sqlite3_stmt *st = db->st[ST_INSERT];
    int result = 0;

    if (g == NULL)
        return -ENOMEM;
    if (!g->stored)
        result = put_group(db, g);
    if (result == 0 && index != g->last_index + 1)
        result = truncate_from(db, g, index);
    for (size_t i = 0; i < n && result == 0; i++) {
        int64_t key = log_db_key(group, g->last_index + 1);
        uint64_t sum = log_db_entry_sum(g->last_sum, key, entries[i]);

        sqlite3_bind_int64(st, 1, key);
        sqlite3_bind_int64(st, 2, (int64_t)entries[i]->term);
        sqlite3_bind_int64(st, 3, entries[i]->type);
        sqlite3_bind_int64(st, 4, (int64_t)sum);
        result =
            log_db_translate(sqlite3_bind_blob(st, 5, entries[i]->data, (int)entries[i]->len, SQLITE_STATIC));
        if (result == 0)
            result = log_db_run(db, ST_INSERT);
        if (result == 0) {
            g->last_index++;
            g->last_sum = sum;
        }
    }
    g->appended = true;
    return result;
}

int log_db_trim(struct log_db *db, uint16_t group, const struct snapshot_meta *meta, uint64_t keep_from)
{
    struct group *g = log_db_group(db, group);
    uint64_t sum;
    int result;

    if (g == NULL)
        return -ENOMEM;
    if (keep_from > g->last_index + 1 || keep_from < g->start_index || keep_from > meta->index + 1)
        return -EBADMSG;
    result = sum_at(db, g, keep_from - 1, &sum);
    if (result != 0)
        return result;
    g->start_index = keep_from;
    g->start_sum = sum;
    snapshot_meta_deinit(&g->snapshot);
    snapshot_meta_copy(meta, &g->snapshot);
    return put_group(db, g);
}

int log_db_reset(struct log_db *db, uint16_t group, const struct snapshot_meta *meta)
{
    struct group *g = log_db_group(db, group);
    uint64_t words[2] = {meta->index, meta->term};
    int result;

    if (g == NULL)
        return -ENOMEM;
    result = lower_floor(db, g, 0, 0);
    /* Rows at or behind the new start would clash with what is appended next;
     * those before it are swept. */
    if (result == 0)
        result = delete_range(db, g, meta->index + 1, (UINT64_C(1) << 48) - 1);
    if (result != 0)
        return result;
    g->start_index = meta->index + 1;
    g->start_sum = digest64(2, words, sizeof words);
    g->last_index = meta->index;
    g->last_sum = g->start_sum;
    g->appended = true;
    snapshot_meta_deinit(&g->snapshot);
    snapshot_meta_copy(meta, &g->snapshot);
    return put_group(db, g);
}

bool log_db_needs_sweep(const struct log_db *db)
{
    for (unsigned i = 0; i < db->n_groups; i++)
        if (db->groups[i].oldest < db->groups[i].start_index)
            return true;
    return false;
}

int log_db_sweep(struct log_db *db, unsigned max)
{
    for (unsigned i = 0; i < db->n_groups; i++) {
        struct group *g = &db->groups[i];
        uint64_t to = g->start_index - g->oldest > max ? g->oldest + max : g->start_index;
        int result;

        if (g->oldest >= g->start_index)
            continue;
        result = delete_range(db, g, g->oldest, to);
        if (result == 0)
            g->oldest = to;
        return result;
    }
    return 0;
}

int log_db_commit(struct log_db *db)
{
    int result = log_db_run(db, ST_COMMIT);

    if (result != 0)
        return result;
    for (unsigned i = 0; i < db->n_groups; i++) {
        struct group *g = &db->groups[i];

        if (!g->appended)
            continue;
        result = log_floor_set(&db->floor, g->number, g->last_index, g->last_sum, false);
        if (result == 0)
            g->floor = g->last_index;
        else if (result != -ENOSPC)
            return result;
    }
    return 0;
}

int log_db_checkpoint(struct log_db *db)
{
    int result;

    if (db->journal_pages < CHECKPOINT_PAGES)
        return 0;
    result =
        log_db_translate(sqlite3_wal_checkpoint_v2(db->sql, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL));
    /* A full disk leaves everything in the journal, where it is safe. A failed
     * fsync is final: a second one would succeed without having written. */
    if (result == 0 || result == -ENOSPC)
        db->journal_pages = 0;
    return result == -ENOSPC || result == -EBUSY ? 0 : result;
}
