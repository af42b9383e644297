#include "kvfs/file/reserve.h"

#include "kvfs/file/files.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"

#define STEP_MIN ((uint64_t)1024 * 1024)
#define STEP_MAX ((uint64_t)16 * 1024 * 1024)
/* Asked for again within this time the steps grow; unused for so long it is given back. */
#define BUSY_MS 1000
#define IDLE_MS 2000
#define TRIM_MS 200
/* After "no room" nothing is asked for ahead. */
#define FULL_MS 1000

static uint64_t beyond(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

void reserve_init(struct reserve *v)
{
    TAILQ_INIT(&v->waiting);
    v->ahead = STEP_MIN;
}

/* By how much the file grows when it is published so long. */
static uint64_t growth(const struct file *f, uint64_t size)
{
    return f->life == FILE_LIVE ? beyond(size, f->attr.size) : 0;
}

bool reserve_fits(const struct files *files, const struct file *f, uint64_t size, uint64_t *room_out)
{
    const struct reserve *v = &files->reserve;

    *room_out = beyond(growth(f, size), f->reserved);
    return v->unlimited || *room_out <= beyond(v->granted, v->used);
}

static void on_granted(struct request *r, int code, struct cursor *body);

static void ask(struct files *files, uint64_t least, uint64_t wanted)
{
    struct reserve *v = &files->reserve;
    struct request *r = request_begin(files->core, NULL, REQUEST_PLAIN);

    if (r == NULL)
        return; /* reserve_tick() asks again */
    r->once = true;
    buffer_put_u64(&r->payload, v->granted);
    buffer_put_u64(&r->payload, least);
    buffer_put_u64(&r->payload, wanted);
    v->asking = r;
    v->consumed = 0;
    v->asked_ms = r->started_ms;
    link_send(r, MESSAGE_RESERVE, on_granted);
}

static void grow(struct files *files)
{
    struct reserve *v = &files->reserve;
    struct request *r = TAILQ_FIRST(&v->waiting);
    uint64_t now = clock_boot_ms(), least = v->used, wanted;

    if (v->asking != NULL || v->unlimited)
        return;
    if (now - v->grown_ms > BUSY_MS)
        v->ahead = STEP_MIN;
    else if (v->ahead < STEP_MAX)
        v->ahead *= 2;
    v->grown_ms = now;
    v->asking_for = r != NULL ? r->serial : 0;
    if (r != NULL)
        least += r->room;
    wanted = least + v->ahead;
    while (r != NULL && (r = TAILQ_NEXT(r, place)) != NULL)
        wanted += r->room;
    ask(files, least, wanted);
}

static void on_granted(struct request *r, int code, struct cursor *body)
{
    struct files *files = r->core->files;
    struct reserve *v = &files->reserve;
    struct request *first = TAILQ_FIRST(&v->waiting);
    uint64_t granted = code == 0 ? cursor_u64(body) : 0;

    v->asking = NULL;
    request_end(r);
    if (code == KV_E_NOTSUP || (code == 0 && body->failed)) {
        v->unlimited = true;
    } else if (code == 0) {
        v->told = granted;
        v->granted = beyond(granted, v->consumed);
        if (v->granted < v->used)
            v->full_ms = clock_boot_ms();
        if (first != NULL && first->serial == v->asking_for && first->room > beyond(v->granted, v->used)) {
            v->full_ms = clock_boot_ms();
            request_wake(first, KV_E_NOSPC);
        }
    } else if (first != NULL && first->serial == v->asking_for) {
        request_wake(first, code);
    }
    request_wake_all(&v->waiting, 0);
}

void reserve_wait(struct request *r, request_fn *on_answer)
{
    struct files *files = r->core->files;

    request_wait(r, &files->reserve.waiting, on_answer);
    grow(files);
}

void reserve_ahead(struct files *files)
{
    struct reserve *v = &files->reserve;
    uint64_t now;

    if (v->asking != NULL || v->unlimited || files->core->link.client == NULL ||
        beyond(v->granted, v->used) >= STEP_MIN / 2)
        return;
    now = clock_boot_ms();
    if (now - v->full_ms > FULL_MS)
        grow(files);
}

void reserve_account(struct files *files, struct file *f)
{
    uint64_t bytes = growth(f, file_size(f));

    files->reserve.used = files->reserve.used - f->reserved + bytes;
    f->reserved = bytes;
}

void reserve_published(struct files *files, struct file *f)
{
    struct reserve *v = &files->reserve;
    uint64_t before = f->reserved, bytes;

    reserve_account(files, f);
    bytes = beyond(before, f->reserved);
    v->granted = beyond(v->granted, bytes);
    v->consumed += bytes;
}

void reserve_lost(struct files *files)
{
    struct reserve *v = &files->reserve;

    v->asking = NULL; /* it ended with the connection */
    v->granted = v->told = 0;
    v->unlimited = false;
}

void reserve_tick(struct files *files, uint64_t now_ms)
{
    struct reserve *v = &files->reserve;
    uint64_t target = v->used, slack = beyond(v->granted, v->used);

    if (v->asking != NULL || v->unlimited || files->core->link.client == NULL ||
        now_ms - v->asked_ms < TRIM_MS)
        return;
    if (!TAILQ_EMPTY(&v->waiting)) {
        grow(files);
        return;
    }
    if (now_ms - v->grown_ms < IDLE_MS)
        target += slack < v->ahead ? slack : v->ahead;
    if (v->granted < target)
        target = v->granted;
    if (v->told > target) {
        v->granted = target;
        ask(files, 0, target);
    }
}
