/* Whose file it is: a node's state.db, or its log's floor, beside another log would be
 * taken for its own. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "kvnode/disk/state_db_internal.h"
#include "sync/base/digest.h"

static uint64_t checksum(const struct state_owner *o)
{
    uint64_t words[3] = {o->cluster, o->life, o->node};

    return digest64(5, words, sizeof words);
}

int state_db_read_owner(sqlite3 *db, const char *path, struct state_owner *out,
                        char error[STATE_DB_ERROR_MAX])
{
    sqlite3_stmt *st = NULL;
    int code = sqlite3_prepare_v2(db, "SELECT cluster, node, life, checksum FROM owner", -1, &st, NULL),
        rv = -ENODATA;

    if (code == SQLITE_OK)
        code = sqlite3_step(st);
    if (code == SQLITE_ROW) {
        *out = (struct state_owner){.cluster = (uint64_t)sqlite3_column_int64(st, 0),
                                    .node = (uint16_t)sqlite3_column_int(st, 1),
                                    .life = (uint64_t)sqlite3_column_int64(st, 2)};
        rv = (uint64_t)sqlite3_column_int64(st, 3) == checksum(out)
                 ? 0
                 : state_db_damaged(path, error, "its owner's checksum");
    } else if (code != SQLITE_DONE) {
        rv = state_db_fail(db, code, path, "cannot read its owner", error);
    }
    sqlite3_finalize(st);
    return rv;
}

static bool is_same(const struct state_owner *a, const struct state_owner *b)
{
    return a->cluster == b->cluster && a->node == b->node && a->life == b->life;
}

int state_db_check_owner(const char *path, const struct state_owner *own, char error[STATE_DB_ERROR_MAX])
{
    struct state_owner owner;
    sqlite3 *db;
    int rv;

    if (access(path, F_OK) != 0)
        return 0;
    rv = state_db_open(path, STATE_DB_READ, &db, error);
    if (rv < 0)
        return rv == -ENOENT || rv == -EUCLEAN ? 0 : rv; /* state_db_load() has judged it */
    rv = state_db_read_owner(db, path, &owner, error);
    sqlite3_close(db);
    if (rv == -ENODATA || (rv == 0 && is_same(&owner, own)))
        return 0;
    if (rv < 0)
        return rv;
    if (owner.cluster != own->cluster)
        snprintf(error, STATE_DB_ERROR_MAX,
                 "%.300s belongs to cluster %016" PRIx64 ", this node to %016" PRIx64, path, owner.cluster,
                 own->cluster);
    else if (owner.node != own->node)
        snprintf(error, STATE_DB_ERROR_MAX, "%.300s belongs to node %u, this is node %u", path, owner.node,
                 own->node);
    else
        snprintf(
            error, STATE_DB_ERROR_MAX,
            "%.300s is of an earlier life of this node, with another log.db than the one that is there now",
            path);
    return -EINVAL;
}

static bool is_written_by_this_version(sqlite3 *db)
{
    sqlite3_stmt *st = NULL;
    bool same = sqlite3_prepare_v2(db, "SELECT 1 FROM owner WHERE program='" KVFS_VERSION "'", -1, &st,
                                   NULL) == SQLITE_OK &&
                sqlite3_step(st) == SQLITE_ROW;

    sqlite3_finalize(st);
    return same;
}

int state_db_claim(const char *path, const struct state_owner *own, char error[STATE_DB_ERROR_MAX])
{
    struct state_owner owner;
    sqlite3_stmt *st = NULL;
    bool same;
    sqlite3 *db;
    int code, rv = state_db_open(path, STATE_DB_CREATE, &db, error);

    if (rv < 0)
        return rv;
    rv = state_db_read_owner(db, path, &owner, error);
    same = rv == 0 && is_same(&owner, own);
    if (same && is_written_by_this_version(db))
        goto out;
    if (rv < 0 && rv != -ENODATA)
        goto out;
    rv = 0;
    code = sqlite3_prepare_v2(db,
                              "REPLACE INTO owner(id, cluster, node, life, checksum, program) "
                              "VALUES(1,?,?,?,?,'" KVFS_VERSION "')",
                              -1, &st, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_bind_int64(st, 1, (int64_t)own->cluster);
    if (code == SQLITE_OK)
        code = sqlite3_bind_int64(st, 2, own->node);
    if (code == SQLITE_OK)
        code = sqlite3_bind_int64(st, 3, (int64_t)own->life);
    if (code == SQLITE_OK)
        code = sqlite3_bind_int64(st, 4, (int64_t)checksum(own));
    if (code == SQLITE_OK)
        code = sqlite3_step(st);
    if (code != SQLITE_DONE && !(same && (code & 0xff) == SQLITE_FULL)) /* the mere name is not worth it */
        rv = state_db_fail(db, code, path, "cannot be given to this node", error);
    sqlite3_finalize(st);
out:
    sqlite3_close(db);
    return rv;
}
