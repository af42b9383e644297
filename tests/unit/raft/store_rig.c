#include "tests/unit/raft/store_rig.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#include "sync/raft/engine/configuration.h"

static void on_news(void *arg)
{
    struct store_rig *r = arg;

    sem_post(&r->news);
}

void store_rig_setup(struct store_rig *r)
{
    memset(r, 0, sizeof *r);
    strcpy(r->directory, "/tmp/kvfs-log-XXXXXX");
    assert_non_null(mkdtemp(r->directory));
    snprintf(r->path, sizeof r->path, "%s/log.db", r->directory);
    sem_init(&r->news, 0, 0);
}

bool store_rig_setup_small(struct store_rig *r, unsigned kib)
{
    char options[64];

    store_rig_setup(r);
    snprintf(options, sizeof options, "size=%uk", kib);
    r->mounted = mount("tmpfs", r->directory, "tmpfs", 0, options) == 0;
    if (!r->mounted)
        store_rig_teardown(r);
    return r->mounted;
}

void store_rig_teardown(struct store_rig *r)
{
    struct dirent *entry;
    DIR *d;

    log_store_close(r->store);
    d = opendir(r->directory);
    while ((entry = readdir(d)) != NULL)
        if (entry->d_name[0] != '.')
            unlinkat(dirfd(d), entry->d_name, 0);
    closedir(d);
    if (r->mounted)
        assert_int_equal(umount(r->directory), 0);
    assert_int_equal(rmdir(r->directory), 0);
    sem_destroy(&r->news);
}

int store_rig_open(struct store_rig *r)
{
    r->appended = r->resets = 0;
    return log_store_open(r->path, on_news, r, &r->store, r->why);
}

void store_rig_close(struct store_rig *r)
{
    log_store_close(r->store);
    r->store = NULL;
}

int store_rig_try_load(struct store_rig *r, struct log_store_log *out)
{
    int result = store_rig_open(r);

    memset(out, 0, sizeof *out);
    if (result != 0)
        return result;
    return log_store_load(r->store, 0, out, r->why);
}

void store_rig_load(struct store_rig *r, struct log_store_log *out)
{
    int result = store_rig_try_load(r, out);

    if (result != 0)
        print_message("%s\n", r->why);
    assert_int_equal(result, 0);
}

static void fill(uint8_t *data, size_t len, uint64_t index, uint64_t term)
{
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(index * 31 + term * 7 + i);
}

void store_rig_append(struct store_rig *r, uint64_t index, unsigned n, uint64_t term, size_t len)
{
    struct entry **entries = calloc(n + 1, sizeof(struct entry *));

    for (unsigned i = 0; i < n; i++) {
        entries[i] = entry_new_reserve(ENTRY_COMMAND, len);
        entries[i]->term = term;
        fill(entries[i]->data, len, index + i, term);
    }
    assert_int_equal(log_store_append(r->store, 0, index, entries, n), 0);
    for (unsigned i = 0; i < n; i++)
        entry_put(entries[i]);
    free(entries);
}

bool store_rig_is(const struct entry *e, uint64_t index, uint64_t term)
{
    uint8_t *expected = malloc(e->len + 1);
    bool same;

    fill(expected, e->len, index, term);
    same = e->term == term && memcmp(expected, e->data, e->len) == 0;
    free(expected);
    return same;
}

static void wait_for_news(struct store_rig *r)
{
    struct timespec at;

    clock_gettime(CLOCK_REALTIME, &at);
    at.tv_sec += 10;
    while (sem_timedwait(&r->news, &at) != 0)
        assert_int_equal(errno, EINTR);
}

void store_rig_wait(struct store_rig *r, unsigned appended, unsigned resets)
{
    for (;;) {
        struct log_store_event events[3];
        size_t n;

        do {
            n = log_store_poll(r->store, events, 3);
            for (size_t i = 0; i < n; i++)
                *(events[i].type == LOG_STORE_APPENDED ? &r->appended : &r->resets) += 1;
        } while (n == 3);
        if (r->appended >= appended && r->resets >= resets)
            return;
        wait_for_news(r);
    }
}

void store_rig_wait_state(struct store_rig *r, enum log_store_state state)
{
    while (log_store_state(r->store) != state)
        wait_for_news(r);
}

struct snapshot_meta store_rig_meta(uint64_t index, uint64_t term)
{
    struct configuration c = {.n = 0};
    struct snapshot_meta meta = {.index = index, .term = term, .conf_index = 1};

    configuration_add(&c, 1, "one", SERVER_VOTER);
    meta.conf = configuration_encode(&c);
    return meta;
}
