/* What the peers say of themselves, and this node to them. */
#include "kvnode/group/group.h"
#include "kvnode/group/skew.h"
#include "kvnode/peer/peers_internal.h"
#include "sync/base/clock.h"
#include "sync/base/error.h"

static void tell(struct peer *peer, const struct peer_status *status)
{
    peer_status_encode(peers_frame_begin(peer, PEER_NO_GROUP, PEER_STATUS, 0), status);
    peers_frame_end(peer);
}

void peers_status_tell(struct peer *peer)
{
    struct peer_status status;

    self_look(peer->peers->owner.self, &status);
    tell(peer, &status);
}

static int on_status(void *arg, uint64_t id, const struct frame *frame)
{
    struct cursor in = cursor_of(frame->payload, frame->len);
    struct peers *p = arg;
    struct peer_view *v = &peers_by_id(p, id)->view;
    struct peer_status said;

    if (!peer_status_decode(&in, &said))
        return KV_E_PROTOCOL;
    v->status = said;
    v->status_ms = clock_boot_ms();
    if (said.health.wall_ns != 0)
        skew_hear(p->owner.skew, id, said.health.wall_ns - (int64_t)clock_wall_ns(), v->status_ms);
    return 0;
}

void peers_status_hear(struct peers *p)
{
    peer_handlers_enter(&p->route.nodes, PEER_STATUS, on_status, p);
}

const struct progress *peers_progress(const struct peers *p, uint64_t id)
{
    static const struct progress nothing;
    const struct peer *peer = peers_by_id(p, id);

    return id == 0 ? &p->own : peer != NULL ? &peer->progress : &nothing;
}

static void note_progress(struct peers *p, uint64_t now_ms, const struct peer_status *own)
{
    uint64_t newest = own->health.commit;
    size_t i;

    for (i = 0; i < p->n; i++)
        if (peers_is_up(&p->all[i]) && p->all[i].view.status.health.commit > newest)
            newest = p->all[i].view.status.health.commit;
    progress_note(&p->own, now_ms, newest, own->applied);
    for (i = 0; i < p->n; i++)
        if (peers_is_up(&p->all[i]))
            progress_note(&p->all[i].progress, now_ms, newest, p->all[i].view.status.applied);
}

void peers_status_beat(struct peers *p, uint64_t now_ms)
{
    struct peer_status status;
    size_t i;

    self_look(p->owner.self, &status);
    note_progress(p, now_ms, &status);
    for (i = 0; i < p->n; i++)
        if (peers_is_up(&p->all[i]))
            tell(&p->all[i], &status);
}

void peers_each(const struct peers *p, void *arg, void (*emit)(void *arg, const struct peer_view *view))
{
    uint64_t now = clock_boot_ms(), fresh = (uint64_t)peers_config(p)->heartbeat_ms * 3;
    size_t i;

    if (fresh < PEER_FRESH_MS)
        fresh = PEER_FRESH_MS;
    for (i = 0; i < p->n; i++) {
        struct peer_view view = p->all[i].view;

        view.up = peers_is_up(&p->all[i]);
        view.fresh = view.up && view.status_ms != 0 && now - view.status_ms <= fresh;
        emit(arg, &view);
    }
}
