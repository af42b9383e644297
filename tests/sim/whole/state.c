/* state.db as an index: everything up to there is in it. Two of them: what was
 * committed (survives the death of the process), and what is durable (survives
 * that of the machine too). A state file for a peer is a file with the index in it
 * and stuffing behind, in a folder of this process. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvnode/disk/state_db.h"
#include "kvnode/state/store_internal.h"
#include "sync/base/error.h"
#include "tests/sim/whole/whole.h"

#define STUFFING_MAX (700 * 1024)

struct writeback {
    struct host *host;
    struct journal *journal;
    struct store *store;
    struct writeback_options options;
    uint64_t sealed; /* index of the last batch handed over */
    uint64_t sealed_ms, durable_ms;
    uint64_t n_queued; /* batches on their way */
    uint64_t durable_every_ms;
    unsigned life;
};

void state_crash(struct host *h, bool power_cut)
{
    struct state_file *f = &h->state;

    if (power_cut)
        f->flushed = f->durable + (uint64_t)rnd_range(0, (int64_t)(f->flushed - f->durable));
}

/* ---- state_db.h ---- */

int state_db_recover(const char *dir, char error[STATE_DB_ERROR_MAX])
{
    return 0;
}

int state_db_load(const char *path, struct store *s, char error[STATE_DB_ERROR_MAX])
{
    struct host *h = host_of_path(path);
    struct batch *batch;

    if (!h->state.exists)
        return -ENOENT;
    if (h->state.damaged) {
        snprintf(error, STATE_DB_ERROR_MAX, "state.db is damaged");
        return -EUCLEAN;
    }
    h->rebuilding = true;
    truth_rebuild(h, s, h->state.flushed);
    h->rebuilding = false;
    truth_loaded(h, s);
    if (options.plant == PLANT_APPLY_TWICE && h->state.label > 0 && h->state.label < h->state.flushed)
        s->applied = h->state.label;
    h->state.label = 0;
    /* What is loaded is in the file: nothing of it is news to the journal. */
    if (journal_seal(s->journal, s, &batch) == 0)
        batch_free(batch);
    return 0;
}

int state_db_snapshot(const char *path, const char *out_path, uint64_t *index_out,
                      char error[STATE_DB_ERROR_MAX])
{
    struct host *h = host_of_path(path);
    size_t stuffing = (size_t)rnd_range(0, STUFFING_MAX);
    uint8_t *bytes = calloc(1, stuffing + 16);
    uint64_t index = h->state.flushed, label = index;
    int fd = open(out_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (bytes == NULL)
        abort();
    if (options.plant == PLANT_APPLY_TWICE && label > 3)
        label -= 3;
    memcpy(bytes, &index, sizeof index);
    memcpy(bytes + 8, &label, sizeof label);
    if (fd < 0 || write(fd, bytes, stuffing + 16) != (ssize_t)(stuffing + 16)) {
        snprintf(error, STATE_DB_ERROR_MAX, "%s: %s", out_path, strerror(errno));
        free(bytes);
        if (fd >= 0)
            close(fd);
        return -EIO;
    }
    close(fd);
    free(bytes);
    *index_out = label;
    trace("n%d: a state file at %lu", h->id, index);
    return 0;
}

int state_db_install(const char *dir, const char *incoming, uint64_t *index_out,
                     char error[STATE_DB_ERROR_MAX])
{
    struct host *h = host_of_path(dir);
    uint64_t numbers[2];
    int fd = open(incoming, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || read(fd, numbers, sizeof numbers) != (ssize_t)sizeof numbers)
        violation("n%d: the state file to be installed is gone", h->id);
    close(fd);
    unlink(incoming);
    h->state.exists = true;
    h->state.damaged = h->state.lost = false;
    h->state.flushed = h->state.durable = numbers[0];
    h->state.label = numbers[1];
    *index_out = numbers[1];
    counters.installs++;
    trace("n%d: state.db is that of %lu", h->id, numbers[0]);
    return 0;
}

int state_db_verify(const char *path, uint64_t *index_out, uint64_t *digest_out,
                    char error[STATE_DB_ERROR_MAX])
{
    uint64_t numbers[2] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || read(fd, numbers, sizeof numbers) != (ssize_t)sizeof numbers)
        violation("a state file to be verified is gone");
    close(fd);
    *index_out = numbers[1];
    *digest_out = 0;
    return 0;
}

int state_db_check_owner(const char *path, const struct state_owner *own, char error[STATE_DB_ERROR_MAX])
{
    return 0;
}

int state_db_claim(const char *path, const struct state_owner *own, char error[STATE_DB_ERROR_MAX])
{
    return 0;
}

/* ---- writeback.h ---- */

int writeback_start(const char *path, struct journal *j, struct store *s,
                    const struct writeback_options *opts, struct writeback **wb_out,
                    char error[STATE_DB_ERROR_MAX])
{
    struct writeback *wb = calloc(1, sizeof *wb);

    if (wb == NULL)
        abort();
    wb->host = host_of_path(path);
    wb->journal = j;
    wb->store = s;
    wb->options = *opts;
    wb->life = ++wb->host->state_life;
    wb->sealed = store_applied(s);
    wb->durable_every_ms = (uint64_t)rnd_range(100, 3000);
    if (!wb->host->state.exists || wb->host->state.damaged)
        wb->host->state = (struct state_file){.exists = true, .lost = wb->host->state.damaged};
    wb->host->state.durable = wb->host->state.flushed; /* opening syncs what was left */
    *wb_out = wb;
    return 0;
}

/* number: the index of the batch; the lowest bit says whether it is made durable.
 * arg: the life of the write-behind, as a number. */
static void written(struct host *h, void *arg, uint64_t number)
{
    struct writeback *wb = h->node.group->writeback;

    if (wb == NULL || wb->life != (uintptr_t)arg)
        return; /* an install has taken its place */
    wb->n_queued--;
    h->state.flushed = number >> 1;
    if ((number & 1) != 0)
        h->state.durable = h->state.flushed;
    /* Filled from the log, as far as that was trimmed. */
    if (h->state.durable + 1 >= h->disk.start_index)
        h->state.lost = false;
    wb->options.notify(wb->options.arg);
}

uint64_t writeback_poll(struct writeback *wb, uint64_t now_ms, int *error_out)
{
    struct host *h = wb->host;
    struct batch *batch;
    bool durable = now_ms - wb->durable_ms >= wb->durable_every_ms;
    int64_t time = rnd_range(100, 20 * MS);

    *error_out = 0;
    if (store_applied(wb->store) == wb->sealed)
        return UINT64_MAX;
    if (now_ms - wb->sealed_ms < wb->options.interval_ms &&
        journal_commands(wb->journal) < wb->options.commands)
        return wb->options.interval_ms - (now_ms - wb->sealed_ms);
    if (wb->n_queued > 0)
        return wb->options.interval_ms;
    *error_out = journal_seal(wb->journal, wb->store, &batch);
    if (*error_out != 0 || batch == NULL)
        return UINT64_MAX;
    if (batch->index != store_applied(wb->store) || batch->digest != store_digest(wb->store))
        violation("n%d: a batch is of %lu with another digest than the store's at %lu", h->id, batch->index,
                  store_applied(wb->store));
    wb->sealed = batch->index;
    wb->sealed_ms = now_ms;
    if (durable)
        wb->durable_ms = now_ms;
    batch_free(batch);
    if (!world.calm && world.now < h->state.slow_until)
        time += rnd_range(0, 3 * SECOND);
    wb->n_queued++;
    queue_at(world.now + time, h, written, (void *)(uintptr_t)wb->life, wb->sealed << 1 | durable, NULL);
    return wb->options.interval_ms;
}

uint64_t writeback_flushed_index(const struct writeback *wb)
{
    return wb->host->state.flushed;
}

uint64_t writeback_durable_index(const struct writeback *wb)
{
    return options.plant == PLANT_EARLY_TRIM ? wb->host->state.flushed : wb->host->state.durable;
}

enum writeback_state writeback_state(const struct writeback *wb)
{
    return WRITEBACK_OK;
}

void writeback_error(const struct writeback *wb, char text[STATE_DB_ERROR_MAX])
{
    text[0] = '\0';
}

size_t writeback_pending_bytes(const struct writeback *wb)
{
    return 0;
}

bool writeback_free(struct writeback *wb, bool flush, uint64_t timeout_ms)
{
    free(wb);
    return false;
}
