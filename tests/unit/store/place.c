#include "tests/unit/store/place.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/look_again.h"

static void die(const char *what)
{
    fprintf(stderr, "%s\n", what);
    abort();
}

void place_init(struct place *p)
{
    *p = (struct place){.dir = "/tmp/kvfs-store-XXXXXX"};
    if (mkdtemp(p->dir) == NULL)
        die("no directory");
    snprintf(p->path, sizeof p->path, "%s/" STATE_DB_NAME, p->dir);
    world_init(&p->w, true);
    if (writeback_start(p->path, p->w.j, p->w.s, NULL, &p->wb, p->error) != 0)
        die(p->error);
}

void place_deinit(struct place *p)
{
    char command[128];

    history_close(p->history);
    writeback_free(p->wb, false, 0);
    world_deinit(&p->w);
    snprintf(command, sizeof command, "rm -rf %s", p->dir);
    if (system(command) != 0)
        die("cannot clean up");
}

int place_setup(void **state)
{
    struct place *p = malloc(sizeof *p);

    if (p == NULL)
        return -1;
    place_init(p);
    *state = p;
    return 0;
}

int place_teardown(void **state)
{
    struct place *p = *state;

    place_deinit(p);
    free(p);
    return 0;
}

void place_flush(struct place *p)
{
    uint64_t until = 0;

    if (writeback_sync(p->wb) != 0)
        die("sync");
    while (writeback_durable_index(p->wb) < store_applied(p->w.s))
        if (!look_again(&until, 20000))
            die("the writer does not get there");
}

void place_restart(struct place *p)
{
    struct store_events events = world_events(&p->w);
    struct journal *j = journal_new();
    struct store *s = store_new(0, j, &events);

    history_close(p->history);
    p->history = NULL;
    if (!writeback_free(p->wb, true, 20000))
        die("not everything was written");
    if (state_db_load(p->path, s, p->error) != 0)
        die(p->error);
    world_adopt(&p->w, s, j);
    if (writeback_start(p->path, j, s, NULL, &p->wb, p->error) != 0)
        die(p->error);
}

struct history_reader *place_history(struct place *p)
{
    place_flush(p);
    if (p->history == NULL)
        p->history = history_open(p->path);
    return p->history;
}

/* History id of the directory of a path, and its last name. */
static uint64_t split(struct place *p, const char *path, const char **name_out)
{
    const char *slash = strrchr(path, '/');
    char dir[256] = "";
    uint64_t id = 0;

    if (slash != NULL)
        snprintf(dir, sizeof dir, "%.*s", (int)(slash - path), path);
    *name_out = slash != NULL ? slash + 1 : path;
    store_history_id(p->w.s, world_ino(&p->w, dir), &id);
    return id;
}

static bool show(void *arg, const struct version_row *row)
{
    char *text = arg;
    size_t at = strlen(text);

    snprintf(text + at, 1024 - at, "%s%llu%s%s%s", at > 0 ? " " : "", (unsigned long long)row->version,
             row->deleted ? "x" : "", row->attributes_only ? "a" : "", row->current ? "*" : "");
    return true;
}

const char *place_versions(struct place *p, const char *path)
{
    static char text[1024];
    const char *name;
    uint64_t id = split(p, path, &name);
    bool more;
    int rv;

    text[0] = '\0';
    rv = history_list(place_history(p), id, name, strlen(name), 0, 100, text, show, &more);
    if (rv != KV_OK)
        snprintf(text, sizeof text, "(%d)", rv);
    return text;
}

const char *place_version(struct place *p, const char *path, uint64_t version)
{
    static char text[1024];
    const char *name;
    uint64_t id = split(p, path, &name);
    struct buffer b = BUFFER_INIT;
    struct version_row row;
    int rv = history_read(place_history(p), id, name, strlen(name), version, 0, sizeof text - 1, &row, &b);

    if (rv != KV_OK)
        snprintf(text, sizeof text, "(%d)", rv);
    else
        snprintf(text, sizeof text, "%.*s", (int)b.len, b.len > 0 ? (const char *)b.data : "");
    buffer_deinit(&b);
    return text;
}

bool place_verifies(struct place *p)
{
    uint64_t index, digest;

    place_flush(p);
    if (state_db_verify(p->path, &index, &digest, p->error) != 0) {
        fprintf(stderr, "%s\n", p->error);
        return false;
    }
    return index == store_applied(p->w.s) && digest == store_digest(p->w.s);
}

int place_teardown_whole(void **state)
{
    struct place *p = *state;

    assert_true(world_digest_is_right(&p->w));
    assert_true(place_verifies(p));
    return place_teardown(state);
}
