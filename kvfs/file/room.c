#include "kvfs/file/room.h"

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

void room_init(struct room *v)
{
    TAILQ_INIT(&v->waiting);
    v->ahead = STEP_MIN;
}

/* By how much the file grows when it is published so long. */
static uint64_t growth(const struct file *f, uint64_t size)
{
    return f->life == FILE_LIVE ? beyond(size, f->attr.size) : 0;
}

bool room_fits(const struct files *files, const struct file *f, uint64_t size, uint64_t *room_out)
{
    const struct room *v = &files->room;

    *room_out = beyond(growth(f, size), f->reserved);
    return v->unlimited || *room_out <= beyond(v->granted, v->used);
}

static void on_granted(struct call *call, int code, const union answer_body *answer);

static void ask(struct files *files, uint64_t least, uint64_t wanted)
{
    struct room *v = &files->room;
    const union request_body request = {.reserve = {.held = v->granted, .least = least, .wanted = wanted}};
    struct call *call = call_begin(files->hub, NULL, CALL_PLAIN);

    if (call == NULL)
        return; /* room_tick() asks again */
    call->once = true;
    v->asking = call;
    v->consumed = 0;
    v->asked_ms = call->started_ms;
    uplink_send(call, MESSAGE_RESERVE, &request, on_granted);
}

static void grow(struct files *files)
{
    struct room *v = &files->room;
    struct call *call = TAILQ_FIRST(&v->waiting);
    uint64_t now = clock_boot_ms(), least = v->used, wanted;

    if (v->asking != NULL || v->unlimited)
        return;
    if (now - v->grown_ms > BUSY_MS)
        v->ahead = STEP_MIN;
    else if (v->ahead < STEP_MAX)
        v->ahead *= 2;
    v->grown_ms = now;
    v->asking_for = call != NULL ? call->serial : 0;
    if (call != NULL)
        least += call->room;
    wanted = least + v->ahead;
    while (call != NULL && (call = TAILQ_NEXT(call, place)) != NULL)
        wanted += call->room;
    ask(files, least, wanted);
}

static void on_granted(struct call *call, int code, const union answer_body *answer)
{
    struct files *files = call->hub->files;
    struct room *v = &files->room;
    struct call *first = TAILQ_FIRST(&v->waiting);
    uint64_t granted = code == 0 ? answer->reserve.granted : 0;

    v->asking = NULL;
    call_end(call);
    if (code == KV_E_NOTSUP || code == KV_E_PROTOCOL) {
        v->unlimited = true;
    } else if (code == 0) {
        v->told = granted;
        v->granted = beyond(granted, v->consumed);
        if (v->granted < v->used)
            v->full_ms = clock_boot_ms();
        if (first != NULL && first->serial == v->asking_for && first->room > beyond(v->granted, v->used)) {
            v->full_ms = clock_boot_ms();
            call_wake(first, KV_E_NOSPC);
        }
    } else if (first != NULL && first->serial == v->asking_for) {
        call_wake(first, code);
    }
    call_wake_all(&v->waiting, 0);
}

void room_wait(struct call *call, call_fn *on_answer)
{
    struct files *files = call->hub->files;

    call_wait(call, &files->room.waiting, on_answer);
    grow(files);
}

void room_ahead(struct files *files)
{
    struct room *v = &files->room;
    uint64_t now;

    if (v->asking != NULL || v->unlimited || files->hub->uplink.client == NULL ||
        beyond(v->granted, v->used) >= STEP_MIN / 2)
        return;
    now = clock_boot_ms();
    if (now - v->full_ms > FULL_MS)
        grow(files);
}

void room_account(struct files *files, struct file *f)
{
    uint64_t bytes = growth(f, file_size(f));

    files->room.used = files->room.used - f->reserved + bytes;
    f->reserved = bytes;
}

void room_published(struct files *files, struct file *f)
{
    struct room *v = &files->room;
    uint64_t before = f->reserved, bytes;

    room_account(files, f);
    bytes = beyond(before, f->reserved);
    v->granted = beyond(v->granted, bytes);
    v->consumed += bytes;
}

void room_lost(struct files *files)
{
    struct room *v = &files->room;

    v->asking = NULL; /* it ended with the connection */
    v->granted = v->told = 0;
    v->unlimited = false;
}

void room_tick(struct files *files, uint64_t now_ms)
{
    struct room *v = &files->room;
    uint64_t target = v->used, slack = beyond(v->granted, v->used);

    if (v->asking != NULL || v->unlimited || files->hub->uplink.client == NULL ||
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
